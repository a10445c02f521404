CREATE TABLE "share_assets" (
	"share_id" uuid NOT NULL,
	"position" integer NOT NULL,
	"asset_id" uuid NOT NULL,
	CONSTRAINT "share_assets_share_id_position_pk" PRIMARY KEY("share_id","position")
);
--> statement-breakpoint
CREATE TABLE "share_marks" (
	"share_id" uuid NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE UNLOGGED TABLE "share_tries" (
	"share_id" uuid NOT NULL,
	"client" "bytea" NOT NULL,
	"tries" integer NOT NULL,
	"ends_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "share_tries_share_id_client_pk" PRIMARY KEY("share_id","client")
);
--> statement-breakpoint
CREATE UNLOGGED TABLE "share_visits" (
	"share_id" uuid NOT NULL,
	"asset_id" uuid NOT NULL,
	"client" "bytea" NOT NULL,
	"ends_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "share_visits_share_id_asset_id_client_pk" PRIMARY KEY("share_id","asset_id","client")
);
--> statement-breakpoint
CREATE TABLE "shares" (
	"id" uuid PRIMARY KEY NOT NULL,
	"created_by" text NOT NULL,
	"digest" "bytea" NOT NULL,
	"key_since" bigint NOT NULL,
	"target" text NOT NULL,
	"project_id" text,
	"claims" jsonb,
	"only_projects" text[],
	"allow" text NOT NULL,
	"label" text,
	"note" text,
	"password" "bytea",
	"max_downloads" integer,
	"downloads" bigint DEFAULT 0 NOT NULL,
	"last_used_at" timestamp (3) with time zone,
	"permanent" boolean DEFAULT false NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"revoked_at" timestamp (3) with time zone,
	CONSTRAINT "shares_target" CHECK (target in ('asset', 'assets', 'project')),
	CONSTRAINT "shares_allow" CHECK (allow in ('view', 'download')),
	CONSTRAINT "shares_project" CHECK ((target = 'project') = (project_id is not null)),
	CONSTRAINT "shares_downloads" CHECK (downloads >= 0 and (max_downloads is null or max_downloads > 0)),
	CONSTRAINT "shares_permanent" CHECK (not permanent or (target = 'asset' and expires_at is null and max_downloads is null and password is null))
);
--> statement-breakpoint
ALTER TABLE "share_assets" ADD CONSTRAINT "share_assets_share_id_shares_id_fk" FOREIGN KEY ("share_id") REFERENCES "public"."shares"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "share_assets" ADD CONSTRAINT "share_assets_asset_id_assets_id_fk" FOREIGN KEY ("asset_id") REFERENCES "public"."assets"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "shares" ADD CONSTRAINT "shares_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "share_assets_by_asset" ON "share_assets" USING btree (asset_id,share_id);--> statement-breakpoint
CREATE INDEX "share_marks_by_share" ON "share_marks" USING btree (share_id);--> statement-breakpoint
CREATE INDEX "share_tries_by_end" ON "share_tries" USING btree (ends_at);--> statement-breakpoint
CREATE INDEX "share_visits_by_end" ON "share_visits" USING btree (ends_at);--> statement-breakpoint
CREATE UNIQUE INDEX "shares_by_digest" ON "shares" USING btree (digest);--> statement-breakpoint
CREATE INDEX "shares_by_maker" ON "shares" USING btree (created_by,created_at,id);--> statement-breakpoint
CREATE INDEX "shares_by_project" ON "shares" USING btree (project_id) WHERE project_id is not null;--> statement-breakpoint
CREATE INDEX "shares_by_expiry" ON "shares" USING btree (expires_at) WHERE expires_at is not null;--> statement-breakpoint
CREATE INDEX "shares_by_revocation" ON "shares" USING btree (revoked_at) WHERE revoked_at is not null;--> statement-breakpoint
-- The first key from which tokens of shares are derived, in force from the beginning; see src/shares/keys.ts.
INSERT INTO "service_secrets" ("name", "value")
VALUES ('share-addresses/0', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
