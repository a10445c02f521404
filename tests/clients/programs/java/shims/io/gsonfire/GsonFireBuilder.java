package io.gsonfire;

import com.google.gson.GsonBuilder;

/** Of gson-fire, which Debian does not have: there are no types to choose from in the contract. */
public class GsonFireBuilder {
  public GsonBuilder createGsonBuilder() {
    return new GsonBuilder();
  }
}
