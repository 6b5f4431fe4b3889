#!/bin/sh
# Remove the background of one video with curl alone: remove_background.sh in.mp4 out.webm
#
# Reads ALPHAREEL_BASE_URL, ALPHAREEL_API_KEY and ALPHAREEL_TIMEOUT (seconds to wait for the job, 3600 when unset).
# The format follows from the target's suffix. Ends with 0 when the target is there, whole, and with 1 otherwise.
set -eu

fail() {
    printf 'remove_background.sh: %s\n' "$1" >&2
    exit 1
}

[ $# -eq 2 ] || fail "usage: remove_background.sh VIDEO TARGET"
[ -n "${ALPHAREEL_BASE_URL:-}" ] ||
    fail "set ALPHAREEL_BASE_URL to the address of the service, such as http://127.0.0.1:8080"
[ -n "${ALPHAREEL_API_KEY:-}" ] || fail "set ALPHAREEL_API_KEY"
source=$1
target=$2
timeout=${ALPHAREEL_TIMEOUT:-3600}
[ -f "$source" ] || fail "there is no file $source"
[ ! -e "$target" ] || fail "$target exists; choose another name or remove it first"

background=transparent
case $target in
*.webm) format=webm ;;
*.mov) format=mov ;;
*.mp4) format=mp4 background=white ;; # carries no alpha
*.mkv) format=ffv1 ;;
*.webp) format=webp ;;
*.gif) format=gif ;;
*.apng) format=apng ;;
*.zip) format=png_sequence ;;
*.png) format=poster ;;
*) fail "no format is known for $target; use .webm, .mov, .mp4, .mkv, .webp, .gif, .apng, .zip or .png" ;;
esac

answer=$(mktemp)
part=$target.$$.part
trap 'rm -f "$answer" "$part"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

field() { # the value of a text field in the JSON of the last answer
    sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$answer"
}

# Call the service; its answer is in $answer. curl repeats after 408, 429 and 5xx, and waits as long as Retry-After says.
ask() {
    code=$(curl -sS -o "$answer" -w '%{http_code}' -H "X-Api-Key: $ALPHAREEL_API_KEY" --connect-timeout 10 \
        --speed-limit 1 --speed-time 60 --retry 5 --retry-max-time 120 "$@") ||
        fail "$ALPHAREEL_BASE_URL cannot be reached"
    case $code in
    2??) ;;
    *) fail "the service answered $code: $(cat "$answer")" ;;
    esac
}

# Creating is repeatable because the service carries out requests with the same Idempotency-Key once.
once="Idempotency-Key: $$-$(date +%s)"

ask "$ALPHAREEL_BASE_URL/v1/uploads" -H "$once-upload" -F "file=@\"$source\""
video_url=$(field video_url)
[ -n "$video_url" ] || fail "the service did not name the upload: $(cat "$answer")"

ask "$ALPHAREEL_BASE_URL/v1/jobs" -H "$once-job" -H "Content-Type: application/json" -d "{\"video_url\": \"$video_url\",
    \"model\": \"human\", \"output_format\": \"$format\", \"background\": \"$background\"}"
job_id=$(field job_id)
[ -n "$job_id" ] || fail "the service did not name the job: $(cat "$answer")"

deadline=$(($(date +%s) + timeout))
pause=1
while :; do
    ask "$ALPHAREEL_BASE_URL/v1/jobs/$job_id" --max-time 30
    status=$(field status)
    case $status in
    completed) break ;;
    created | pending | processing) ;;
    failed) fail "job $job_id failed: $(field error_code): $(field error)" ;;
    *) fail "job $job_id has the unknown status '$status'" ;;
    esac
    [ "$(($(date +%s) + pause))" -le "$deadline" ] || fail "job $job_id is not done after $timeout seconds; it goes on"
    sleep "$pause"
    [ "$pause" -ge 10 ] || pause=$((pause + 1))
done

output_url=$(field output_url)
[ -n "$output_url" ] || fail "job $job_id has no output any more"
curl -sS --fail --location --output "$part" --connect-timeout 10 --speed-limit 1 --speed-time 60 \
    --retry 5 --retry-max-time 120 "$output_url" || fail "the result of job $job_id could not be downloaded"
[ ! -e "$target" ] || fail "$target appeared meanwhile; the result of job $job_id was not stored"
mv "$part" "$target"
