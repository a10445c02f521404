CREATE TABLE "api_keys" (
	"id" uuid PRIMARY KEY NOT NULL,
	"owner_id" text NOT NULL,
	"name" text NOT NULL,
	"digest" "bytea" NOT NULL,
	"scopes" text[] NOT NULL,
	"projects" text[],
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"last_used_at" timestamp (3) with time zone,
	"revoked_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "project_members" (
	"project_id" text NOT NULL,
	"subject" text NOT NULL,
	"role" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "project_members_project_id_subject_pk" PRIMARY KEY("project_id","subject"),
	CONSTRAINT "project_members_role" CHECK (role in ('viewer', 'editor', 'manager'))
);
--> statement-breakpoint
CREATE TABLE "projects" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"separate" boolean DEFAULT false NOT NULL,
	"created_by" text NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tickets" (
	"id" uuid PRIMARY KEY NOT NULL,
	"issued_by" text NOT NULL,
	"subject" text NOT NULL,
	"digest" "bytea" NOT NULL,
	"project_id" text,
	"asset_type" text,
	"media_types" text[],
	"max_file_size" bigint,
	"max_files" integer,
	"max_bytes" bigint,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"files" integer DEFAULT 0 NOT NULL,
	"bytes" bigint DEFAULT 0 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL,
	"revoked_at" timestamp (3) with time zone,
	CONSTRAINT "tickets_counts" CHECK (files >= 0 and bytes >= 0)
);
--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "account" text;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "ticket_id" uuid;--> statement-breakpoint
ALTER TABLE "audit_events" ADD COLUMN "via" text;--> statement-breakpoint
ALTER TABLE "audit_events" ADD COLUMN "project_id" text;--> statement-breakpoint
ALTER TABLE "project_members" ADD CONSTRAINT "project_members_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "api_keys_by_digest" ON "api_keys" USING btree (digest);--> statement-breakpoint
CREATE INDEX "api_keys_by_owner" ON "api_keys" USING btree (owner_id,created_at,id);--> statement-breakpoint
CREATE INDEX "project_members_by_subject" ON "project_members" USING btree (subject,project_id);--> statement-breakpoint
CREATE UNIQUE INDEX "tickets_by_digest" ON "tickets" USING btree (digest);--> statement-breakpoint
CREATE INDEX "tickets_by_issuer" ON "tickets" USING btree (issued_by,created_at,id);--> statement-breakpoint
CREATE INDEX "tickets_by_expiry" ON "tickets" USING btree (expires_at);--> statement-breakpoint
-- What was a label of one owner becomes his project. A label that several owners have becomes a project that shows each
-- of them only his own assets, and has no manager: so nobody sees afterwards what he could not see before. Writers wait,
-- so that no label is missed.
LOCK TABLE "assets" IN SHARE ROW EXCLUSIVE MODE;
--> statement-breakpoint
INSERT INTO "projects" ("id", "name", "separate", "created_by", "created_at")
SELECT "project_id", "project_id", count(DISTINCT "owner_id") > 1, CASE WHEN count(DISTINCT "owner_id") = 1 THEN min("owner_id") ELSE 'stowage:migration' END, min("created_at")
FROM "assets" WHERE "project_id" IS NOT NULL GROUP BY "project_id";
--> statement-breakpoint
INSERT INTO "project_members" ("project_id", "subject", "role")
SELECT DISTINCT "projects"."id", "assets"."owner_id", CASE WHEN "projects"."separate" THEN 'editor' ELSE 'manager' END
FROM "assets" JOIN "projects" ON "projects"."id" = "assets"."project_id";
--> statement-breakpoint
-- Accounts of owners whose ids look like other accounts.
UPDATE "assets" SET "account" = 'owner:' || "owner_id" WHERE "owner_id" LIKE 'project:%' OR "owner_id" LIKE 'owner:%';
--> statement-breakpoint
UPDATE "quotas" SET "owner_id" = 'owner:' || "owner_id" WHERE "owner_id" LIKE 'project:%' OR "owner_id" LIKE 'owner:%';
--> statement-breakpoint
ALTER TABLE "assets" ADD CONSTRAINT "assets_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "assets_of_project_by_created" ON "assets" USING btree (project_id,created_at,id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is null and project_id is not null;--> statement-breakpoint
CREATE INDEX "assets_of_project_by_name" ON "assets" USING btree (project_id,lower(name) collate "C",id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is null and project_id is not null;--> statement-breakpoint
CREATE INDEX "assets_of_project_by_size" ON "assets" USING btree (project_id,size,id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is null and project_id is not null;--> statement-breakpoint
CREATE INDEX "assets_of_project_trashed" ON "assets" USING btree (project_id,created_at,id) WHERE state in ('processing', 'ready', 'rejected', 'lost') and trashed_at is not null and project_id is not null;--> statement-breakpoint
CREATE INDEX "assets_of_project" ON "assets" USING btree (project_id) WHERE project_id is not null;--> statement-breakpoint
CREATE INDEX "assets_of_ticket" ON "assets" USING btree (ticket_id,created_at,id) WHERE ticket_id is not null;