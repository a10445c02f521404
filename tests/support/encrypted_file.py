"""Encrypted files as docs/encryption.md describes them, written without a look at the client's code.

It is the second implementation that the tests compare the client with: AES-GCM and HKDF are those of pyca/cryptography
(Debian's python3-cryptography), the envelope is opened and written by the `age` command.

    encrypted_file.py read  < jobs.json    [{"path", "identity" | "passphrase" | "key", "range"?: [start, end]}]
    encrypted_file.py write < jobs.json    [{"path", "length", "name", "type", "recipients" | "passphrase"}]
    encrypted_file.py check < clients/typescript/vectors/encrypted-files.json    [sha256 of the file]
    encrypted_file.py vectors              prints that file anew

Byte i of what it writes is (31 * i + (i >> 8)) & 255. What it read it tells as JSON, one result for each job.
"""

import base64
import hashlib
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

MAGIC = b"\x8eSTOWEN\x01"
CHUNK = 16384
SEGMENT = 1 << 20
INFO = b"stowage encrypted file v1 info"
CONTENT = b"stowage encrypted file v1 content"
SALT = b"stowage encrypted file v1 content salt"
AGE = os.environ.get("TEST_AGE", "age")


class Damaged(Exception):
    """The file is not what was encrypted."""


def expand(key, info, length):
    return HKDFExpand(algorithm=SHA512(), length=length, info=info).derive(key)


def derive(key, salt, context):
    """Cobblestone-256: key, base nonce, commitment."""
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context
    okm = expand(key, info, 32 + 12 + 32)
    return AESGCM(okm[:32]), int.from_bytes(okm[32:44], "big"), okm[44:]


def seal(key, salt, context, plaintext):
    aead, base, commitment = derive(key, salt, context)
    sealed = [salt, commitment]
    for number in range(len(plaintext) // CHUNK + 1):
        nonce = (base ^ number).to_bytes(12, "big")
        sealed.append(aead.encrypt(nonce, plaintext[number * CHUNK : (number + 1) * CHUNK], None))
    return b"".join(sealed)


def unseal(key, context, message, start=0, end=None):
    """Decrypts the chunks that hold the bytes [start, end)."""
    body = message[56:]
    last = len(body) % (CHUNK + 16)
    if len(message) < 56 + 16 or last < 16:
        raise Damaged("truncated")
    size = len(body) // (CHUNK + 16) * CHUNK + last - 16
    aead, base, commitment = derive(key, message[:24], context)
    if commitment != message[24:56]:
        raise Damaged("commitment")
    end = size if end is None else end
    first, beyond = start // CHUNK, (size // CHUNK + 1 if end == size else -(-end // CHUNK))
    plaintext = []
    for number in range(first, beyond):
        nonce = (base ^ number).to_bytes(12, "big")
        chunk = body[number * (CHUNK + 16) : (number + 1) * (CHUNK + 16)]
        try:
            plaintext.append(aead.decrypt(nonce, chunk, None))
        except InvalidTag:
            raise Damaged(f"chunk {number}")
    return size, b"".join(plaintext)[start - first * CHUNK : end - first * CHUNK]


def run_age(arguments, data, passphrase=None):
    """The command asks a terminal for the passphrase, and is given one."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in"), os.path.join(folder, "out")
        with open(source, "wb") as file:
            file.write(data)
        command = [AGE, *arguments, "-o", target, source]
        if passphrase is None:
            subprocess.run(command, check=True, capture_output=True)
        else:
            child, terminal = pty.fork()
            if child == 0:
                os.execv(AGE, command)
            answer(child, terminal, passphrase)
        with open(target, "rb") as file:
            return file.read()


def answer(child, terminal, passphrase):
    """Types the passphrase whenever it is asked for."""
    seen = b""
    while True:
        try:
            some = os.read(terminal, 1000)
        except OSError:
            break
        if not some:
            break
        seen += some
        if b"passphrase" in seen.lower() and seen.rstrip().endswith(b":"):
            os.write(terminal, passphrase.encode() + b"\n")
            seen = b""
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise Damaged("age: " + seen.decode(errors="replace"))


def wrap(key, job):
    if "passphrase" in job:
        return run_age(["-p"], key, job["passphrase"])
    recipients = [part for recipient in job["recipients"] for part in ("-r", recipient)]
    return run_age(recipients, key)


def unwrap(envelope, job):
    if "key" in job:
        return bytes.fromhex(job["key"])
    if "passphrase" in job:
        return run_age(["-d"], envelope, job["passphrase"])
    with tempfile.NamedTemporaryFile("w") as identity:
        identity.write(job["identity"] + "\n")
        identity.flush()
        return run_age(["-d", "-i", identity.name], envelope)


def fingerprint(plaintext):
    segments = range(0, len(plaintext) + 1, SEGMENT)
    digests = [hashlib.sha256(plaintext[at : at + SEGMENT]).digest() for at in segments]
    return hashlib.sha256(b"".join(digests) + struct.pack(">Q", len(plaintext))).digest()


def write_prefix(key, envelope, job, plaintext):
    described = {"name": job["name"], "type": job["type"], "size": len(plaintext)}
    described["fingerprint"] = base64.b64encode(fingerprint(plaintext)).decode()
    text = json.dumps(described).encode()
    info = seal(key, os.urandom(24), INFO, text + b" " * (-len(text) % 256))
    return MAGIC + struct.pack(">II", len(envelope), len(info)) + envelope + info


def write_content(key, plaintext):
    return seal(key, expand(key, SALT + fingerprint(plaintext), 24), CONTENT, plaintext)


def read(data, job):
    if data[:8] != MAGIC:
        raise Damaged("magic")
    envelope_size, info_size = struct.unpack(">II", data[8:16])
    envelope = data[16 : 16 + envelope_size]
    prefix = 16 + envelope_size + info_size
    key = unwrap(envelope, job)
    _, text = unseal(key, INFO, data[16 + envelope_size : prefix])
    info = json.loads(text)
    size, plaintext = unseal(key, CONTENT, data[prefix:], *job.get("range", []))
    if size != info["size"]:
        raise Damaged("size")
    return info, key, plaintext


def pattern(length):
    return bytes((31 * i + (i >> 8)) & 255 for i in range(length))


def read_job(job):
    with open(job["path"], "rb") as file:
        data = file.read()
    try:
        info, key, plaintext = read(data, job)
    except (Damaged, subprocess.CalledProcessError) as error:
        return {"error": str(error)}
    return {**info, "key": key.hex(), "length": len(plaintext), "sha256": hashlib.sha256(plaintext).hexdigest()}


def write_job(job):
    plaintext, key = pattern(job["length"]), os.urandom(32)
    data = write_prefix(key, wrap(key, job), job, plaintext) + write_content(key, plaintext)
    with open(job["path"], "wb") as file:
        file.write(data)
    return {"key": key.hex(), "size": len(data)}


IDENTITY = "AGE-SECRET-KEY-1HDDJS22FDDD5KCD0S6VFSZGRJAYZX6QPLVZ4HJJH8685WUQ9KF2SN3JZHX"
PASSPHRASE = "correct horse battery staple"


def vector(length, job):
    plaintext = pattern(length)
    key = hashlib.sha256(b"key of the vector of length %d" % length).digest()
    prefix = write_prefix(key, wrap(key, job), job, plaintext)
    data = prefix + write_content(key, plaintext)
    told = {"length": length, "name": job["name"], "type": job["type"], "key": key.hex()}
    told["opensWith"] = "passphrase" if "passphrase" in job else "identity"
    told["fingerprint"] = fingerprint(plaintext).hex()
    told["prefix"] = base64.b64encode(prefix).decode()
    return {**told, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def vectors():
    keygen = subprocess.run([AGE + "-keygen", "-y"], input=IDENTITY.encode(), capture_output=True, check=True)
    recipient = keygen.stdout.decode().strip()
    lengths = [0, 1, 255, 16383, 16384, 16385, 32768, 100000, 1048575, 1048576, 1048577, 2500000]
    made = [vector(n, {"name": f"{n} Bytes.bin", "type": "", "recipients": [recipient]}) for n in lengths]
    secret = {"name": "Gehälter 2026.xlsx", "type": "text/plain", "passphrase": PASSPHRASE}
    made.append(vector(20000, secret))
    return {
        "format": "docs/encryption.md",
        "madeWith": "tests/support/encrypted_file.py and age 1.1.1",
        "plaintext": "byte i = (31*i + (i >> 8)) & 255",
        "identity": IDENTITY,
        "recipient": recipient,
        "passphrase": PASSPHRASE,
        "vectors": made,
    }


def check_vector(told, vector):
    """Makes the file of a vector, and reads it by the key that is in its envelope."""
    key = bytes.fromhex(vector["key"])
    data = base64.b64decode(vector["prefix"]) + write_content(key, pattern(vector["length"]))
    opens = vector["opensWith"]
    info, found, plaintext = read(data, {opens: told[opens]})
    if found != key or plaintext != pattern(vector["length"]) or info["name"] != vector["name"]:
        raise Damaged("vector")
    return hashlib.sha256(data).hexdigest()


def check():
    told = json.load(sys.stdin)
    return [check_vector(told, vector) for vector in told["vectors"]]


COMMANDS = {
    "read": lambda: [read_job(job) for job in json.load(sys.stdin)],
    "write": lambda: [write_job(job) for job in json.load(sys.stdin)],
    "check": check,
    "vectors": vectors,
}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](), indent=2, ensure_ascii=False))
