//! `aztorch-doctor URL` examines a storage account from this machine: which features work, and how fast. URL is the URL
//! of a container, with or without a SAS. The doctor writes a blob with a name of its own and deletes it. The exit
//! status is 0 if no check failed.

use std::net::{IpAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use aztorch::diagnostics::{ResponseHeaders, send};
use aztorch::{Client, ClientOptions, WriteMode};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

type Setter = fn(&mut ClientOptions) -> aztorch::Result<()>;

const MIB: usize = 1 << 20;
/// The time limit of each call. With it, the whole examination ends within two minutes.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The bytes that are written, and read for each speed.
const SPEED_SIZE: usize = 32 * MIB;
/// After this time no further read is started.
const READS_UNTIL: Duration = Duration::from_secs(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url] = arguments.as_slice() else {
        eprintln!("usage: aztorch-doctor 'https://ACCOUNT.blob.core.windows.net/CONTAINER[?SAS]'");
        return ExitCode::from(2);
    };
    let mut report = Report { started: Instant::now(), passed: 0, failed: 0 };
    examine(url, &mut report);
    println!("{} passed, {} failed", report.passed, report.failed);
    ExitCode::from(u8::from(report.failed > 0 || report.passed == 0))
}

struct Report {
    started: Instant,
    passed: u32,
    failed: u32,
}

impl Report {
    /// Prints one line: PASS with a result, or FAIL with the reason. Returns whether the check passed.
    fn check(&mut self, name: &str, outcome: Result<String>) -> bool {
        match outcome {
            Ok(result) => {
                self.passed += 1;
                println!("PASS  {name:<14} {result}");
                true
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {name:<14} {error}");
                false
            }
        }
    }

    /// Prints one line that is neither a success nor a failure.
    fn note(&self, name: &str, text: &str) {
        println!("      {name:<14} {text}");
    }

    fn has_time(&self) -> bool {
        self.started.elapsed() < READS_UNTIL
    }
}

fn examine(url: &str, report: &mut Report) {
    report.check("DNS", addresses(url));
    let client_with = |set: Setter| -> aztorch::Result<Client> {
        let mut options = ClientOptions::new();
        options.set_max_retries(1)?;
        options.set_timeout(Some(CALL_TIMEOUT))?;
        set(&mut options)?;
        Client::new(&options)
    };
    let has_sas = url.split_once('?').is_some_and(|(_, query)| query.contains("sig="));
    let list = |client: &Client| send(client, "GET", url, "restype=container&comp=list&maxresults=1", &[]);
    if has_sas {
        report.note("credential", "the SAS of the URL; without a SAS, the identities are tried");
    } else if url.starts_with("https:") {
        let mut identities: Vec<(&str, Setter)> = vec![
            ("workload", ClientOptions::set_workload_identity),
            ("managed", |options| options.set_managed_identity(std::env::var("AZURE_CLIENT_ID").ok().as_deref())),
            ("az login", ClientOptions::set_azure_cli),
        ];
        if std::env::var_os("AZURE_CLIENT_SECRET").is_some() {
            identities.push(("principal", set_principal));
        }
        for (name, set) in identities {
            let listed = client_with(set).and_then(|client| list(&client));
            report.note(name, &listed.map_or_else(|error| format!("no: {error}"), |_| "works".to_owned()));
        }
    }
    let client = match client_with(|_| Ok(())) {
        Ok(client) => client,
        Err(error) => {
            report.check("client", Err(error.into()));
            return;
        }
    };
    let started = Instant::now();
    let listed = list(&client);
    let skew = listed.as_ref().ok().and_then(clock_skew);
    let listed = listed.map(|_| format!("{} ms", started.elapsed().as_millis())).map_err(Into::into);
    if !report.check("list", listed) {
        return;
    }
    match skew {
        Some(seconds) if seconds.abs() <= 300 => drop(report.check("clock", Ok(format!("{seconds} s off")))),
        Some(seconds) => drop(report.check("clock", Err(format!("{seconds} s off: set this machine's clock").into()))),
        None => report.note("clock", "the service sent no time"),
    }
    let account = send(&client, "GET", url, "restype=account&comp=properties", &[]);
    let kind = account.map_or_else(
        |error| format!("unknown: {error}"),
        |headers| {
            let hns = headers.get("x-ms-is-hns-enabled").unwrap_or("unknown");
            format!("{}, hierarchical namespace: {hns}", headers.get("x-ms-account-kind").unwrap_or("unknown kind"))
        },
    );
    report.note("account", &kind);
    examine_blobs(url, &client, report);
}

/// Uses the service principal in the environment variables.
fn set_principal(options: &mut ClientOptions) -> aztorch::Result<()> {
    let [tenant, id, secret] = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"]
        .map(|name| std::env::var(name).unwrap_or_default());
    options.set_client_secret(&tenant, &id, &secret)
}

/// Writes a blob, reads it over 1, 8 and 32 connections, and deletes it.
fn examine_blobs(url: &str, client: &Client, report: &mut Report) {
    let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let name = format!("aztorch-doctor-{}-{stamp}", std::process::id());
    let content: Vec<u8> =
        (0..SPEED_SIZE as u64).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let started = Instant::now();
    let written = write(client, url, &name, &content).map(|()| speed(SPEED_SIZE, started));
    if !report.check("write", written.map_err(Into::into)) {
        return;
    }
    let (container, query) = url.split_once('?').map_or((url, String::new()), |(c, q)| (c, format!("?{q}")));
    let blob = format!("{}/{name}{query}", container.trim_end_matches('/'));
    for connections in [1, 8, 32] {
        if report.has_time() {
            report.check(&format!("read, {connections} conn."), read(&blob, connections, &content));
        }
    }
    let range = format!("bytes=0-{}", MIB - 1);
    let checksum = send(client, "GET", &blob, "", &[("x-ms-range", &range), ("x-ms-range-get-content-crc64", "true")]);
    match checksum.map(|headers| headers.get("x-ms-content-crc64").map(str::to_owned)) {
        Ok(Some(checksum)) => drop(report.check("checksums", Ok(format!("crc64 {checksum}")))),
        Ok(None) => report.note("checksums", "the service sent none"),
        Err(error) => report.note("checksums", &error.to_string()),
    }
    match send(client, "PUT", &blob, "comp=snapshot", &[]) {
        Ok(headers) => drop(report.check("snapshot", Ok(headers.get("x-ms-snapshot").unwrap_or("").to_owned()))),
        Err(error) => report.note("snapshot", &error.to_string()),
    }
    let version = send(client, "HEAD", &blob, "", &[]).ok();
    let version = version.and_then(|headers| headers.get("x-ms-version-id").map(str::to_owned));
    report.note("versions", version.as_deref().unwrap_or("off"));
    let deleted = send(client, "DELETE", &blob, "", &[("x-ms-delete-snapshots", "include")]);
    report.check("delete", deleted.map(|_| "the blob and its snapshots".to_owned()).map_err(Into::into));
}

fn write(client: &Client, url: &str, name: &str, content: &[u8]) -> aztorch::Result<()> {
    let writer = client.writer_in(url, name, WriteMode::Create)?;
    writer.write_all(content)?;
    writer.close()
}

fn read(blob: &str, connections: u32, content: &[u8]) -> Result<String> {
    let mut options = ClientOptions::new();
    options.set_max_concurrency(connections)?;
    options.set_timeout(Some(CALL_TIMEOUT))?;
    let reader = Client::new(&options)?.open(blob)?;
    let mut bytes = vec![0; content.len()];
    let started = Instant::now();
    let count = reader.read(&mut bytes)?;
    if count != content.len() || bytes != content {
        return Err("the bytes read differ from the bytes written".into());
    }
    Ok(speed(count, started))
}

fn speed(bytes: usize, started: Instant) -> String {
    let seconds = started.elapsed().as_secs_f64();
    format!("{} MiB in {seconds:.2} s, {:.0} MB/s", bytes / MIB, bytes as f64 / seconds / 1e6)
}

/// Resolves the host of the URL.
fn addresses(url: &str) -> Result<String> {
    // The messages do not show the argument, which may be a SAS, a key or a password.
    let (_, rest) = url.split_once("://").ok_or("the argument is not a URL: it does not begin with https://")?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("the URL has a user name or password, which Blob Storage does not accept".into());
    }
    let with_port = if authority.rsplit(']').next().is_some_and(|rest| rest.contains(':')) {
        authority.to_owned()
    } else {
        format!("{authority}:{}", if url.starts_with("http:") { 80 } else { 443 })
    };
    let started = Instant::now();
    let found = with_port.to_socket_addrs().map_err(|error| format!("the host of the URL cannot be found: {error}"))?;
    let shown: Vec<_> = found.map(|address| format!("{} ({})", address.ip(), kind(address.ip()))).collect();
    Ok(format!("{} in {} ms", shown.join(", "), started.elapsed().as_millis()))
}

fn kind(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(address) if address.is_loopback() => "this machine",
        IpAddr::V4(address) if address.is_private() => "private endpoint",
        IpAddr::V6(address) if address.is_loopback() => "this machine",
        IpAddr::V6(address) if address.is_unique_local() => "private endpoint",
        _ => "public endpoint",
    }
}

/// Returns by how many seconds the service's clock is ahead of this machine's clock.
fn clock_skew(headers: &ResponseHeaders) -> Option<i64> {
    let service = headers.date()?;
    let ahead =
        |later: SystemTime, earlier: SystemTime| later.duration_since(earlier).ok().map(|time| time.as_secs() as i64);
    let now = SystemTime::now();
    ahead(service, now).or_else(|| ahead(now, service).map(|seconds| -seconds))
}
