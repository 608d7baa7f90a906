//! An unmodified program of the SDK for Rust, by the default chain alone.

use std::{env, error::Error, process::ExitCode, time::Duration};

use aws_config::BehaviorVersion;
use aws_sdk_s3::error::DisplayErrorContext;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(env::var("CONFORMANCE_ENDPOINT")?)
        .load()
        .await;
    let sts = aws_sdk_sts::Client::new(&config);
    if arguments[0] == "loop" {
        return repeat(&sts, arguments[1].parse()?, arguments[2].parse()?).await;
    }
    let path_style = aws_sdk_s3::config::Builder::from(&config)
        .force_path_style(true)
        .build();
    let s3 = aws_sdk_s3::Client::from_conf(path_style);
    s3.list_buckets().send().await?;
    sts.get_caller_identity().send().await?;
    Ok(ExitCode::SUCCESS)
}

async fn repeat(
    sts: &aws_sdk_sts::Client,
    interval: f64,
    count: u32,
) -> Result<ExitCode, Box<dyn Error>> {
    let mut status = ExitCode::SUCCESS;
    for _ in 0..count {
        match sts.get_caller_identity().send().await {
            Ok(_) => println!("ok"),
            Err(error) => {
                println!(
                    "error {}",
                    DisplayErrorContext(&error).to_string().replace('\n', " ")
                );
                status = ExitCode::FAILURE;
            }
        }
        tokio::time::sleep(Duration::from_secs_f64(interval)).await;
    }
    Ok(status)
}
