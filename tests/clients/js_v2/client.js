// The AWS SDK for JavaScript v2: each client's default chain.
const AWS = require("aws-sdk");
const { setTimeout: sleep } = require("node:timers/promises");

const endpoint = process.env.CONFORMANCE_ENDPOINT;
const region = process.env.AWS_REGION;
const s3 = new AWS.S3({ endpoint, region, s3ForcePathStyle: true });
const sts = new AWS.STS({ endpoint, region });
const [what, interval, count] = process.argv.slice(2);

async function once() {
  await s3.listBuckets().promise();
  await sts.getCallerIdentity().promise();
}

async function loop() {
  for (let call = 0; call < Number(count); call++) {
    try {
      await sts.getCallerIdentity().promise();
      console.log("ok");
    } catch (error) {
      process.exitCode = 1;
      console.log("error", String(error).replace(/\s+/g, " "));
    }
    await sleep(Number(interval) * 1000);
  }
}

(what === "once" ? once() : loop()).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
