CREATE TABLE "trash_emptyings" (
	"account" text PRIMARY KEY NOT NULL,
	"id" uuid NOT NULL,
	"owner_id" text,
	"project_id" text,
	"state" text NOT NULL,
	"cutoff" timestamp (3) with time zone NOT NULL,
	"requested_by" text NOT NULL,
	"request_id" text NOT NULL,
	"via" text,
	"reason" text,
	"found" bigint,
	"deleted" bigint DEFAULT 0 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"finished_at" timestamp (3) with time zone,
	CONSTRAINT "trash_emptyings_state" CHECK (state in ('running', 'done'))
);
