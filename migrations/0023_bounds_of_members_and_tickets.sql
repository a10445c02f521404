ALTER TABLE "project_members" ADD COLUMN "added_by" text;--> statement-breakpoint
CREATE INDEX "project_members_by_adder" ON "project_members" USING btree (added_by) WHERE added_by is not null;--> statement-breakpoint
CREATE INDEX "tickets_good_by_issuer" ON "tickets" USING btree (issued_by,expires_at) WHERE revoked_at is null;