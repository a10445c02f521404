CREATE TABLE "life_cycle_looks" (
	"asset_id" uuid PRIMARY KEY NOT NULL,
	"look_at" timestamp (3) with time zone NOT NULL,
	"linked_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "life_cycle_policies" (
	"asset_type" text PRIMARY KEY NOT NULL,
	"rules" jsonb NOT NULL,
	"changed_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "retention" text;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "temporary_until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "tier" text;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "archived_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "restore" jsonb;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "restored_until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "projects" ADD COLUMN "life_cycle" jsonb;--> statement-breakpoint
CREATE INDEX "life_cycle_looks_due" ON "life_cycle_looks" USING btree (look_at,asset_id);