//! Two services that talk mTLS, and how an operator cuts one of them off, then everything that a stolen CA issued.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{Instant, timeout};

use super::PATIENCE;
use crate::cast::Cast;
use crate::program::{Person, text};
use crate::stage::{Stage, Wrong};

/// Payments that are booked.
const PAYMENTS: usize = 500;
const MINT: &str = "mint x509 --profile ledger-mtls --out";

/// A service of `examples/mtls-services`; it is killed with this value.
struct Service {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Service {
    fn start(
        program: &Path,
        person: &Person,
        join: &Path,
        settings: &[(&str, String)],
    ) -> Result<Self, Wrong> {
        let mut child = Command::new(program)
            .env_clear()
            .envs(["HOME", "MAYFLY_CONTEXT"].map(|name| (name, person.var(name))))
            .env("MAYFLY_JOIN_TOKEN_FILE", join)
            .env("SERVICE_PROFILE", "ledger-mtls")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Wrong::of(&program.display().to_string(), e))?;
        let stderr = child.stderr.take().ok_or_else(|| Wrong::new("a service has no output"))?;
        Ok(Self { child, lines: BufReader::new(stderr).lines() })
    }

    /// The rest of the line that starts with `start`.
    async fn says(&mut self, start: &str) -> Result<String, Wrong> {
        let mut last = String::new();
        let line = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                if let Some(rest) = line.strip_prefix(start) {
                    return Ok(rest.to_owned());
                }
                last = line;
            }
            Err(Wrong(format!("a service never said `{start}`, but at last: {last}")))
        };
        timeout(PATIENCE, line).await.map_err(|_| Wrong(format!("a service does not say `{start}`")))?
    }
}

/// A join token's file for a service that `owner` answers for.
pub(super) async fn join(cast: &Cast, name: &str, owner: &str) -> Result<PathBuf, Wrong> {
    let file = cast.dir.join(format!("{owner}.join"));
    let words = format!(
        "join create --workload /svc/{name} --owner team:{owner} --environment production --reason demo --out {}",
        file.display()
    );
    cast.operator.json(&words).await?;
    Ok(file)
}

/// Somebody whose only evidence is a certificate in files.
fn holder(person: &Person, dir: &Path) -> Person {
    let file = |name: &str| dir.join(name).display().to_string();
    person.clone().with("MAYFLY_CERT_FILE", file("tls.crt")).with("MAYFLY_KEY_FILE", file("tls.key"))
}

pub(super) async fn play(stage: &mut Stage, cast: &Cast) -> Result<(), Wrong> {
    stage.scene("Two services talk mTLS");
    let job = cast.job("services", "--run 8200").await?.person;
    let person = Person::new(cast.program(), &[("HOME", job.var("HOME"))])
        .with("MAYFLY_CONTEXT", job.var("MAYFLY_CONTEXT"));
    let for_ledger = stage
        .line("an operator makes a join token", "good for ten minutes and one machine", async {
            let file = join(cast, "ledger", "ledger").await?;
            Ok((file, "ledger.join, mode 0600".to_owned()))
        })
        .await?;
    let begun = Instant::now();
    let beside = |name: &str| cast.program().with_file_name(name);
    let listen = [
        ("LEDGER_LISTEN", "127.0.0.1:0".to_owned()),
        ("LEDGER_CALLER", "spiffe://acme.internal/svc/payments".to_owned()),
    ];
    let mut ledger = Service::start(&beside("ledger"), &person, &for_ledger, &listen)?;
    let address = stage
        .line("the ledger starts", "its certificate and its key are in no file", async {
            let address = ledger.says("listening on ").await?;
            Ok((address.clone(), format!("serves mTLS after {} ms", begun.elapsed().as_millis())))
        })
        .await?;
    let for_payments = join(cast, "payments", "payments-service").await?;
    let call = [
        ("LEDGER_URL", format!("https://{address}")),
        ("LEDGER_ID", "spiffe://acme.internal/svc/ledger".to_owned()),
        ("PAYMENTS", PAYMENTS.to_string()),
    ];
    stage
        .line("the payments service books at it", "each knows the other by its SPIFFE ID alone", async {
            let mut payments = Service::start(&beside("payments"), &person, &for_payments, &call)?;
            let told = payments.says(&format!("{PAYMENTS} payments, ")).await?;
            let ended = payments.child.wait().await.map_err(|e| Wrong::of("payments", e))?;
            if ended.success() { Ok(((), format!("{PAYMENTS} payments, {told}"))) } else { Err(Wrong(told)) }
        })
        .await?;
    cut_off(stage, cast, &person).await?;
    stolen_ca(stage, cast, &person).await
}

async fn cut_off(stage: &mut Stage, cast: &Cast, person: &Person) -> Result<(), Wrong> {
    let files = cast.dir.join("web-tls");
    let out = files.display();
    let owner = holder(person, &files);
    stage
        .line(
            "a machine gets certificate files",
            "a PKCS #8 key, the chain, the anchor of its peers",
            async {
                let join = join(cast, "payments", "web").await?;
                let with = person.clone().with("MAYFLY_JOIN_TOKEN_FILE", join.display().to_string());
                let told = with.json(&format!("{MINT} {out}")).await?;
                Ok(((), format!("lease {}", text(&told, "lease"))))
            },
        )
        .await?;
    let child = cast.dir.join("web-child");
    stage
        .line(
            "its certificate is evidence for another",
            "no token, no secret: the connection proves it",
            async {
                let told = owner.json(&format!("{MINT} {}", child.display())).await?;
                Ok(((), format!("lease {}", text(&told, "lease"))))
            },
        )
        .await?;
    stage
        .line("`mayfly revoke --owner team:web`", "its certificate has an hour to live", async {
            let told = cast.operator.json("revoke --owner team:web --no-block --reason owner-left").await?;
            Ok(((), text(&told, "revocation").to_owned()))
        })
        .await?;
    let again = format!("{MINT} {}", cast.dir.join("web-again").display());
    stage
        .line("its next call to the broker", "the handshake succeeds, its lease is dead", async {
            owner.refused(&again, "LEASE_REVOKED", 5).await
        })
        .await?;
    stage
        .line("the certificate that it minted", "descendants die with it", async {
            holder(person, &child).refused(&again, "LEASE_REVOKED", 5).await
        })
        .await
}

async fn stolen_ca(stage: &mut Stage, cast: &Cast, person: &Person) -> Result<(), Wrong> {
    let files = cast.dir.join("store-tls");
    let join = join(cast, "payments", "store").await?;
    person
        .clone()
        .with("MAYFLY_JOIN_TOKEN_FILE", join.display().to_string())
        .json(&format!("{MINT} {}", files.display()))
        .await?;
    stage
        .line(
            "`mayfly ca revoke`: the issuing CA was stolen",
            "out of the bundle, and replaced, in one step",
            async {
                let told = cast.operator.json("ca list").await?;
                let active = told
                    .get("authorities")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .find(|ca| text(ca, "role") == "workload" && text(ca, "state") == "active");
                let id = active.map(|ca| text(ca, "id").to_owned()).ok_or_else(|| Wrong(told.to_string()))?;
                cast.operator.json(&format!("ca revoke {id} --yes --reason drill")).await?;
                Ok(((), format!("CA {id}")))
            },
        )
        .await?;
    stage
        .line(
            "a certificate that it issued",
            "nobody revoked its lease: the handshake knows its CA no more",
            async {
                let again = format!("{MINT} {}", cast.dir.join("store-again").display());
                holder(person, &files).refused(&again, "CERTIFICATE_NOT_ALLOWED", 3).await
            },
        )
        .await
}

/// A live token, and the key that signed it.
pub(super) async fn stolen_key(stage: &mut Stage, cast: &Cast) -> Result<(), Wrong> {
    stage
        .line(
            "`mayfly key revoke`: the token key was stolen",
            "out of the JWKS, and replaced, in one step",
            async {
                let told = cast.operator.json("key list").await?;
                let active = told
                    .get("keys")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .find(|key| text(key, "state") == "active");
                let kid =
                    active.map(|key| text(key, "kid").to_owned()).ok_or_else(|| Wrong(told.to_string()))?;
                cast.operator.json(&format!("key revoke {kid} --yes --reason drill")).await?;
                Ok(((), format!("key {kid}")))
            },
        )
        .await
}
