package javax.annotation;

/** No more in the JDK since version 11. */
public @interface Generated {
  String value() default "";
}
