# The AWS SDK for Ruby, as Debian has it: its default chain.
require "aws-sdk-core"
require "aws-sdk-s3"

endpoint = ENV.fetch("CONFORMANCE_ENDPOINT")
s3 = Aws::S3::Client.new(endpoint: endpoint, force_path_style: true)
sts = Aws::STS::Client.new(endpoint: endpoint)

if ARGV[0] == "once"
  s3.list_buckets
  sts.get_caller_identity
else
  failures = 0
  ARGV[2].to_i.times do
    begin
      sts.get_caller_identity
      puts "ok"
    rescue StandardError => e
      failures += 1
      puts "error #{e.message.split.join(' ')}"
    end
    $stdout.flush
    sleep ARGV[1].to_f
  end
  exit(failures.zero? ? 0 : 1)
end
