import com.amazonaws.SdkClientException;
import com.amazonaws.auth.DefaultAWSCredentialsProviderChain;
import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.s3.AmazonS3ClientBuilder;
import com.amazonaws.services.s3.model.ListBucketsRequest;
import com.amazonaws.services.securitytoken.AWSSecurityTokenService;
import com.amazonaws.services.securitytoken.AWSSecurityTokenServiceClientBuilder;
import com.amazonaws.services.securitytoken.model.GetCallerIdentityRequest;

/** An unmodified program of the SDK for Java v1, by the default chain alone. */
class Client {
    public static void main(String[] args) throws Exception {
        var endpoint = new EndpointConfiguration(System.getenv("CONFORMANCE_ENDPOINT"), System.getenv("AWS_REGION"));
        var chain = new DefaultAWSCredentialsProviderChain();
        var s3 = AmazonS3ClientBuilder.standard().withCredentials(chain).withEndpointConfiguration(endpoint)
                .withPathStyleAccessEnabled(true).build();
        var sts = AWSSecurityTokenServiceClientBuilder.standard().withCredentials(chain)
                .withEndpointConfiguration(endpoint).build();
        if (args[0].equals("loop")) {
            System.exit(loop(sts, Double.parseDouble(args[1]), Integer.parseInt(args[2])));
        }
        try {
            s3.listBuckets(new ListBucketsRequest());
            sts.getCallerIdentity(new GetCallerIdentityRequest());
        } catch (SdkClientException error) {
            System.err.println(error);
            System.exit(1);
        }
    }

    static int loop(AWSSecurityTokenService sts, double interval, int count) throws InterruptedException {
        var status = 0;
        for (var i = 0; i < count; i++) {
            try {
                sts.getCallerIdentity(new GetCallerIdentityRequest());
                System.out.println("ok");
            } catch (SdkClientException error) {
                System.out.println("error " + error.toString().replace('\n', ' '));
                status = 1;
            }
            Thread.sleep((long) (interval * 1000));
        }
        return status;
    }
}
