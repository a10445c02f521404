package io.swagger.annotations;

/** Of swagger-annotations 1.5, which Debian does not have: documentation only. */
public @interface ApiModel {
  String value() default "";
  String description() default "";
}
