DROP TABLE "multipart_uploads" CASCADE;--> statement-breakpoint
DROP TABLE "resumable_parts" CASCADE;--> statement-breakpoint
DROP TABLE "resumable_uploads" CASCADE;