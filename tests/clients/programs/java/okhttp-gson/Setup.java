import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.model.Problem;

/** The library `okhttp-gson`, which is the default. */
class Setup {
  static final boolean SENDS_FORMS = true;
  static final boolean READS_FILES = true;

  static ApiClient client(String url) {
    return new ApiClient().setBasePath(url).addDefaultHeader("x-user-id", "java-okhttp-gson");
  }

  static Problem problem(ApiException error) {
    return new ApiClient().getJSON().deserialize(error.getResponseBody(), Problem.class);
  }
}
