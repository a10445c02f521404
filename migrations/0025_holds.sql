ALTER TABLE "assets" ADD COLUMN "holds" jsonb;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "retain_until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "retention_mode" text;--> statement-breakpoint
ALTER TABLE "trash_emptyings" ADD COLUMN "held" bigint;--> statement-breakpoint
-- The service asks in each of its statements; this is for those that do not: of an instance of an earlier version that still
-- runs beside this one, and of whoever works in the database by hand. Only held rows cost anything.
CREATE FUNCTION refuse_held() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the asset % is held', OLD.id USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END
$$;
--> statement-breakpoint
CREATE TRIGGER assets_held_on_delete BEFORE DELETE ON "assets" FOR EACH ROW
  WHEN (OLD.holds IS NOT NULL OR OLD.retain_until > now())
  EXECUTE FUNCTION refuse_held();
--> statement-breakpoint
CREATE TRIGGER assets_held_on_update BEFORE UPDATE OF state, object_key ON "assets" FOR EACH ROW
  WHEN ((OLD.holds IS NOT NULL OR OLD.retain_until > now())
    AND (NEW.state = 'deleting' OR NEW.object_key IS DISTINCT FROM OLD.object_key))
  EXECUTE FUNCTION refuse_held();
--> statement-breakpoint
CREATE TRIGGER assets_held_on_shortening BEFORE UPDATE OF retain_until, retention_mode ON "assets" FOR EACH ROW
  WHEN (OLD.retention_mode = 'compliance' AND OLD.retain_until > now()
    AND (NEW.retain_until IS NULL OR NEW.retain_until < OLD.retain_until OR NEW.retention_mode IS DISTINCT FROM 'compliance'))
  EXECUTE FUNCTION refuse_held();
--> statement-breakpoint
CREATE FUNCTION refuse_held_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM "assets" WHERE id = OLD.asset_id AND (holds IS NOT NULL OR retain_until > now());
  IF FOUND THEN
    RAISE EXCEPTION 'the asset % is held', OLD.asset_id USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
  END IF;
  RETURN OLD;
END
$$;
--> statement-breakpoint
CREATE TRIGGER asset_versions_held BEFORE DELETE ON "asset_versions" FOR EACH ROW EXECUTE FUNCTION refuse_held_version();
