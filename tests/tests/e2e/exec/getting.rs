//! What a command gets, and what is left when it has ended.

use std::path::Path;

use mayfly_proto::v1 as pb;
use mayfly_testkit::user::{Running, printed, users};

use super::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_leaves_nothing_behind() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let copy = place.path("copy");
        let file = format!("{}=exec.token", copy.display());
        let script = r#"stat -c %a "$MAYFLY_CREDENTIALS_DIR" "$MAYFLY_TOKEN_FILE"
            stat -f -c %T "$MAYFLY_CREDENTIALS_DIR"
            cmp "$MAYFLY_TOKEN_FILE" "$MAYFLY_TOKEN_FILE_EXEC" && cmp "$MAYFLY_TOKEN_FILE" "$COPY" && echo same
            env | grep -c -e ACTIONS_ID_TOKEN -e MAYFLY_ID_TOKEN
            echo "$MAYFLY_CREDENTIALS_DIR"; exit 3"#;
        let output = place.exec(&["--file", &file], script).env("COPY", &copy).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{user:?}: {told}");
        let lines = printed(&output);
        let [dir_mode, mode, kind, same, evidence, dir] = lines.lines().collect::<Vec<_>>()[..] else {
            panic!("{user:?}: {lines} {told}")
        };
        assert_eq!([dir_mode, mode, same, evidence], ["700", "600", "same", "0"], "{user:?}: {lines} {told}");
        assert!(kind == "tmpfs" || told.contains("on a disk"), "{user:?}: {kind} {told}");
        assert!(!Path::new(dir).exists() && !copy.exists(), "{user:?}");
        assert_eq!(world.task(&place).await.state, "ended", "{user:?}");
        let leases = world.leases(&place).await;
        assert!(!leases.is_empty() && leases.iter().all(|l| l.state != "active"), "{user:?}: {leases:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_another_opened_stays_open() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let started = place.mayfly(&[]).args(["task", "start", "--intent", "use:exec"]).output().unwrap();
        assert!(started.status.success(), "{user:?}: {started:?}");
        let others =
            place.mayfly(&[]).args("mint token --profile exec --ttl 5m".split(' ')).output().unwrap();
        assert!(others.status.success(), "{user:?}: {others:?}");
        assert!(place.exec(&[], "exit 0").status().unwrap().success(), "{user:?}");
        assert_eq!(world.task(&place).await.state, "open", "{user:?}");
        let mut states: Vec<_> = world.leases(&place).await.into_iter().map(|l| l.state).collect();
        states.sort();
        assert_eq!(states, ["active", "released"], "{user:?}: only its own ends with it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_proves_its_token_but_can_not_mint() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let script = r#"mayfly proof GET https://exec.acme.internal/x <"$MAYFLY_TOKEN_FILE" | wc -l
            mayfly mint token --profile exec; echo $?"#;
        let mut command = place.exec(&[], script);
        let path = std::path::PathBuf::from(command.get_args().find(|a| Path::new(a).is_absolute()).unwrap());
        command.env("PATH", format!("{}:/usr/bin:/bin", path.parent().unwrap().display()));
        let output = command.output().unwrap();
        assert_eq!(printed(&output), "1\n2", "{user:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("NO_EVIDENCE"), "{user:?}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_environment_lives_as_long_as_the_task_may_and_is_masked() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let output =
            place.exec(&["--env", "API_TOKEN=exec.token"], r#"printf %s "$API_TOKEN""#).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let token = printed(&output);
        assert!(token.starts_with("ey"), "{user:?}: {told}");
        assert!(told.contains(&format!("::add-mask::{token}")), "{user:?}: {told}");
        let window = world.task(&place).await.window_ends_ms;
        let lease = world.leases(&place).await.remove(0);
        assert!(window.abs_diff(lease.expires_ms) < 5_000, "{user:?}: {lease:?} {window}");
        let piece = place.exec(&["--env", "API_TOKEN=other.token"], "exit 0").output().unwrap();
        assert_eq!(piece.status.code(), Some(125), "{user:?}: {piece:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_before_the_start_is_125_and_leaves_nothing() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let ran = place.path("ran");
        let script = format!("touch {}", ran.display());
        let failing: [(&[&str], &str, &str); 4] = [
            (&["--profile", "no-such-profile"], "PROFILE_NOT_ALLOWED", ""),
            (&["--file", "/no/such/dir/x=exec.token"], "/no/such/dir/x", ""),
            (&["--file", "/tmp/x=exec.cert"], "no such piece", ""),
            (&[], "NO_EVIDENCE", "ACTIONS_ID_TOKEN_REQUEST_URL"),
        ];
        for (options, told, without) in failing {
            let output = place.exec(options, &script).env_remove(without).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(125), "{user:?} {options:?}: {stderr}");
            assert!(stderr.contains(told), "{user:?} {options:?}: {stderr}");
            assert!(!ran.exists(), "{user:?} {options:?}");
            let live = world.leases(&place).await.into_iter().filter(|l| l.state == "active").count();
            assert_eq!(live, 0, "{user:?} {options:?}: what was minted before is ended");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_nobody_vouches_for_joins_and_renews_by_its_certificate() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let file = place.path("join");
        let made = std::process::Command::new(crate::support::mayfly())
            .args("join create --workload /vm/exec --owner team:exec --reason test --out".split(' '))
            .arg(&file)
            .envs(world.broker.operator_env())
            .output()
            .unwrap();
        assert!(made.status.success() && made.stdout.is_empty(), "{user:?}: {made:?}");
        user.take(&file);
        let script = r#"trap 'kill -9 $!' EXIT; trap 'echo renewed; exit 2' HUP; echo ready
            while :; do sleep 600 & wait $!; done"#;
        let exec = |options: &[&str]| {
            let mut command = place.mayfly(&[]);
            for name in ["GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"] {
                command.env_remove(name);
            }
            command.env("MAYFLY_JOIN_TOKEN_FILE", &file);
            command.args(["exec", "--profile", "exec-tls"]).args(options).args(["--", "sh", "-c", script]);
            command
        };
        // A wish that its profile can't grant does not use the join token up.
        let wish = exec(&["--env", "X=exec-tls.token"]).output().unwrap();
        assert_eq!(wish.status.code(), Some(125), "{user:?}: {wish:?}");
        let told = String::from_utf8_lossy(&wish.stderr).into_owned();
        assert!(told.contains("does not go into a variable"), "{user:?}: {told}");
        let command = exec(&["--on-renew", "HUP"]);
        let mut running = Running::start(command);
        assert_eq!([running.line(), running.line()], ["ready", "renewed"], "{user:?}");
        assert_eq!(running.end().0, Some(2), "{user:?}");
        let token = world.operator.list_join_tokens(pb::ListJoinTokensRequest {}).await.unwrap().tokens;
        let token = token.into_iter().find(|t| t.state == "used" && !t.lease.is_empty()).unwrap();
        let lease = world.operator.get_lease(pb::GetLeaseRequest { id: token.lease }).await.unwrap();
        assert_eq!(lease.state, "released", "{user:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_step_ends_the_task_without_key_or_evidence() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let handle = place.path("handle");
        let started = place
            .mayfly(&[])
            .args("task start --intent use:exec --handle-file".split(' '))
            .arg(&handle)
            .output();
        assert!(started.as_ref().unwrap().status.success(), "{user:?}: {started:?}");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&handle).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{user:?}");
        let post = |arguments: &[&str], variable: &str| {
            let mut command = user.command(&[], crate::support::mayfly());
            let broker = ["MAYFLY_URL", "MAYFLY_CA_SHA256"];
            command.envs(place.env.iter().filter(|(name, _)| broker.contains(name)).cloned());
            command.env("HOME", place.dir.path()).env("MAYFLY_COMPLETION_HANDLE", variable);
            command.args(["task", "complete"]).args(arguments).output().unwrap()
        };
        let wrong = post(&[], "mfc_AAAA");
        assert_eq!(wrong.status.code(), Some(3), "{user:?}: {wrong:?}");
        assert_eq!(world.task(&place).await.state, "open", "{user:?}");
        let done = post(&["--handle-file", handle.to_str().unwrap()], "");
        assert!(done.status.success(), "{user:?}: {done:?}");
        assert_eq!(world.task(&place).await.state, "ended", "{user:?}");
        let again = post(&[], std::fs::read_to_string(&handle).unwrap().trim());
        assert!(printed(&again).contains("it had ended already"), "{user:?}: {again:?}");
    }
}
