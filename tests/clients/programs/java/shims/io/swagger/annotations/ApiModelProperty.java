package io.swagger.annotations;

/** Of swagger-annotations 1.5, which Debian does not have: documentation only. */
public @interface ApiModelProperty {
  String value() default "";
  String example() default "";
  boolean required() default false;
}
