// The AWS SDK for JavaScript v3: each client's default chain.
import { ListBucketsCommand, S3Client } from "@aws-sdk/client-s3";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { setTimeout as sleep } from "node:timers/promises";

const endpoint = process.env.CONFORMANCE_ENDPOINT;
const s3 = new S3Client({ endpoint, forcePathStyle: true });
const sts = new STSClient({ endpoint });
const [what, interval, count] = process.argv.slice(2);

if (what === "once") {
  await s3.send(new ListBucketsCommand({}));
  await sts.send(new GetCallerIdentityCommand({}));
} else {
  for (let call = 0; call < Number(count); call++) {
    try {
      await sts.send(new GetCallerIdentityCommand({}));
      console.log("ok");
    } catch (error) {
      process.exitCode = 1;
      console.log("error", String(error).replace(/\s+/g, " "));
    }
    await sleep(Number(interval) * 1000);
  }
}
