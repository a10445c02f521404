import java.net.URI;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.model.Problem;

/** The library `native`: java.net.http and Jackson. In this version it sends no forms and reads no files. */
class Setup {
  static final boolean SENDS_FORMS = false;
  static final boolean READS_FILES = false;

  static ApiClient client(String url) {
    ApiClient client = new ApiClient();
    URI address = URI.create(url);
    client.setScheme(address.getScheme()).setHost(address.getHost()).setPort(address.getPort());
    client.setRequestInterceptor(request -> request.header("x-user-id", "java-native"));
    return client;
  }

  static Problem problem(ApiException error) throws Exception {
    return new ApiClient().getObjectMapper().readValue(error.getResponseBody(), Problem.class);
  }
}
