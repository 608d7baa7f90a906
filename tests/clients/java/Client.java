import java.net.URI;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.core.exception.SdkException;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.sts.StsClient;

/** An unmodified program of the SDK for Java v2, by the default chain alone. */
class Client {
    public static void main(String[] args) throws Exception {
        var endpoint = URI.create(System.getenv("CONFORMANCE_ENDPOINT"));
        var chain = DefaultCredentialsProvider.builder().build();
        try (var s3 = S3Client.builder().credentialsProvider(chain).endpointOverride(endpoint)
                        .forcePathStyle(true).build();
                var sts = StsClient.builder().credentialsProvider(chain).endpointOverride(endpoint).build()) {
            if (args[0].equals("loop")) {
                System.exit(loop(sts, Double.parseDouble(args[1]), Integer.parseInt(args[2])));
            }
            s3.listBuckets();
            sts.getCallerIdentity();
        } catch (SdkException error) {
            System.err.println(error);
            System.exit(1);
        }
    }

    static int loop(StsClient sts, double interval, int count) throws InterruptedException {
        var status = 0;
        for (var i = 0; i < count; i++) {
            try {
                sts.getCallerIdentity();
                System.out.println("ok");
            } catch (SdkException error) {
                System.out.println("error " + error.toString().replace('\n', ' '));
                status = 1;
            }
            Thread.sleep((long) (interval * 1000));
        }
        return status;
    }
}
