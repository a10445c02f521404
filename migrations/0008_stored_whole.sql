ALTER TABLE "assets" ADD COLUMN "stored_whole" boolean;
