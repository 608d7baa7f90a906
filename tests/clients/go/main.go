// An unmodified program of the SDK for Go v2, by the default chain alone.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func main() {
	ctx := context.Background()
	endpoint := aws.String(os.Getenv("CONFORMANCE_ENDPOINT"))
	cfg, err := config.LoadDefaultConfig(ctx)
	fail(err)
	caller := sts.NewFromConfig(cfg, func(o *sts.Options) { o.BaseEndpoint = endpoint })
	if os.Args[1] == "loop" {
		loop(ctx, caller)
		return
	}
	buckets := s3.NewFromConfig(cfg, func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = endpoint, true })
	_, err = buckets.ListBuckets(ctx, nil)
	fail(err)
	_, err = caller.GetCallerIdentity(ctx, nil)
	fail(err)
}

func loop(ctx context.Context, caller *sts.Client) {
	interval, err := strconv.ParseFloat(os.Args[2], 64)
	fail(err)
	count, err := strconv.Atoi(os.Args[3])
	fail(err)
	status := 0
	for range count {
		if _, err := caller.GetCallerIdentity(ctx, nil); err != nil {
			fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
			status = 1
		} else {
			fmt.Println("ok")
		}
		time.Sleep(time.Duration(interval * float64(time.Second)))
	}
	os.Exit(status)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
