//! What the parts cost by themselves, on the same machine in the same minutes: what the results are compared with.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use tokio::time::Instant;

use crate::Result;
use crate::load::{millis, nanos, times};

/// How long each part is measured.
const LENGTH: Duration = Duration::from_millis(500);

/// P-256 on one thread: signatures made, and verified, in microseconds each.
pub(crate) fn p256() -> Result<(f64, f64)> {
    let rng = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &rng)?;
    let message = [7; 1024];
    let signature = pair.sign(&rng, &message)?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
    let sign = each(|| pair.sign(&rng, &message).map(|_| ()))?;
    let verify = each(|| public.verify(&message, signature.as_ref()))?;
    Ok((sign, verify))
}

fn each<E: std::error::Error>(mut work: impl FnMut() -> std::result::Result<(), E>) -> Result<f64> {
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed() < LENGTH {
        work()?;
        count += 1;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(count.max(1)))
}

/// A record appended to a file and made durable, alone on this disk: p50 and p99 in milliseconds.
pub(crate) fn fdatasync(dir: &Path) -> Result<(f64, f64)> {
    let path = dir.join("sync.raw");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let (mut all, record, mut at) = (times()?, [b'x'; 1_000], 0);
    let begin = Instant::now();
    while begin.elapsed() < LENGTH * 2 {
        let one = Instant::now();
        file.write_all_at(&record, at)?;
        file.sync_data()?;
        all.saturating_record(nanos(one.elapsed()));
        at += 1_000;
    }
    std::fs::remove_file(path)?;
    Ok((millis(&all, 0.5), millis(&all, 0.99)))
}

/// Pipelined `PING`s a second over one connection, and the milliseconds of one durable `SET` (p50, p99).
pub(crate) fn redis(connection: &mut redis::Connection) -> Result<(f64, f64, f64)> {
    let mut batch = redis::pipe();
    for _ in 0..100 {
        batch.cmd("PING").ignore();
    }
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed() < LENGTH {
        batch.query::<()>(connection)?;
        count += 100;
    }
    let pings = f64::from(count) / begin.elapsed().as_secs_f64();
    let (mut all, begin) = (times()?, Instant::now());
    while begin.elapsed() < LENGTH * 2 {
        let one = Instant::now();
        redis::cmd("SET").arg("bench:raw").arg("x").query::<()>(connection)?;
        all.saturating_record(nanos(one.elapsed()));
    }
    redis::cmd("DEL").arg("bench:raw").query::<()>(connection)?;
    Ok((pings, millis(&all, 0.5), millis(&all, 0.99)))
}
