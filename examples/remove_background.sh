#!/bin/sh
# Remove the background of one video with curl alone: remove_background.sh in.mp4 out.webm
# Reads ALPHAREEL_URL and ALPHAREEL_API_KEY.
set -eu

field() { # the value of a text field in the JSON on standard input
    sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

ask() {
    curl -sS -H "X-Api-Key: $ALPHAREEL_API_KEY" "$@"
}

video_url=$(ask "$ALPHAREEL_URL/v1/uploads" -F "file=@$1" | field video_url)
job_id=$(ask "$ALPHAREEL_URL/v1/jobs" -H "Content-Type: application/json" \
    -d "{\"video_url\": \"$video_url\", \"model\": \"human\"}" | field job_id)

while :; do
    job=$(ask "$ALPHAREEL_URL/v1/jobs/$job_id")
    case $(printf %s "$job" | field status) in
        completed) break ;;
        failed)
            printf '%s\n' "$job" >&2
            exit 1
            ;;
        *) sleep 2 ;;
    esac
done

curl -sS --fail --location --output "$2" "$(printf %s "$job" | field output_url)"
