ALTER TABLE "quotas" ADD COLUMN "tier" text;--> statement-breakpoint
CREATE INDEX "quotas_by_usage" ON "quotas" USING btree (used_bytes,owner_id);--> statement-breakpoint
CREATE INDEX "quotas_by_tier" ON "quotas" USING btree (coalesce(tier, ''),owner_id);