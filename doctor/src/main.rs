//! aztorch-doctor URL: what works on this account from this machine, with figures. URL is a container's, with or without
//! a SAS. It writes blobs under a name of its own and removes them. Exit status 0 when nothing failed.

use std::net::{IpAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use aztorch::{Answer, Client, ClientOptions, WriteMode};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

type Setter = fn(&mut ClientOptions) -> aztorch::Result<()>;

const MIB: usize = 1 << 20;
/// Each call ends after this, so that the whole ends within two minutes.
const PATIENCE: Duration = Duration::from_secs(15);
/// How much is read for each figure of speed.
const SPEED_SIZE: usize = 32 * MIB;
/// The time to be told within; what does not fit any more is left out.
const WHOLE: Duration = Duration::from_secs(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url] = arguments.as_slice() else {
        eprintln!("usage: aztorch-doctor 'https://ACCOUNT.blob.core.windows.net/CONTAINER[?SAS]'");
        return ExitCode::from(2);
    };
    let mut report = Report { began: Instant::now(), passed: 0, failed: 0 };
    examine(url, &mut report);
    println!("{} passed, {} failed", report.passed, report.failed);
    ExitCode::from(u8::from(report.failed > 0 || report.passed == 0))
}

struct Report {
    began: Instant,
    passed: u32,
    failed: u32,
}

impl Report {
    /// One line: PASS with a figure, or FAIL with the reason. Whether it passed.
    fn check(&mut self, what: &str, outcome: Result<String>) -> bool {
        match outcome {
            Ok(figure) => {
                self.passed += 1;
                println!("PASS  {what:<14} {figure}");
                true
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {what:<14} {error}");
                false
            }
        }
    }

    /// What is neither good nor bad.
    fn note(&self, what: &str, text: &str) {
        println!("      {what:<14} {text}");
    }

    fn has_time(&self) -> bool {
        self.began.elapsed() < WHOLE
    }
}

fn examine(url: &str, report: &mut Report) {
    report.check("DNS", addresses(url));
    let options = |set: Setter| -> aztorch::Result<Client> {
        let mut options = ClientOptions::new();
        options.set_max_retries(1)?;
        options.set_timeout(Some(PATIENCE))?;
        set(&mut options)?;
        Client::new(&options)
    };
    let has_sas = url.split_once('?').is_some_and(|(_, query)| query.contains("sig="));
    let list = |client: &Client| client.send("GET", url, "restype=container&comp=list&maxresults=1", &[], &[]);
    if has_sas {
        report.note("credential", "the SAS of the URL; without it the others would be tried");
    } else if url.starts_with("https:") {
        let mut identities: Vec<(&str, Setter)> = vec![
            ("workload", ClientOptions::set_workload_identity),
            ("managed", |options| options.set_managed_identity(std::env::var("AZURE_CLIENT_ID").ok().as_deref())),
            ("az login", ClientOptions::set_azure_cli),
        ];
        if std::env::var_os("AZURE_CLIENT_SECRET").is_some() {
            identities.push(("principal", principal));
        }
        for (name, set) in identities {
            let answer = options(set).and_then(|client| list(&client));
            report.note(name, &answer.map_or_else(|error| format!("no: {error}"), |_| "works".to_owned()));
        }
    }
    let client = match options(|_| Ok(())) {
        Ok(client) => client,
        Err(error) => {
            report.check("client", Err(error.into()));
            return;
        }
    };
    let began = Instant::now();
    let listed = list(&client);
    let skew = listed.as_ref().ok().and_then(skew);
    let listed = listed.map(|_| format!("{} ms", began.elapsed().as_millis())).map_err(Into::into);
    if !report.check("list", listed) {
        return;
    }
    match skew {
        Some(seconds) if seconds.abs() <= 300 => drop(report.check("clock", Ok(format!("{seconds} s off")))),
        Some(seconds) => drop(report.check("clock", Err(format!("{seconds} s off: set it").into()))),
        None => report.note("clock", "the service told no time"),
    }
    let account = client.send("GET", url, "restype=account&comp=properties", &[], &[]);
    let kind = account.map_or_else(
        |error| format!("not told: {error}"),
        |answer| {
            let hns = answer.header("x-ms-is-hns-enabled").unwrap_or("not told");
            format!("{}, hierarchical namespace: {hns}", answer.header("x-ms-account-kind").unwrap_or("unknown kind"))
        },
    );
    report.note("account", &kind);
    blobs(url, &client, report);
}

/// The service principal of the environment.
fn principal(options: &mut ClientOptions) -> aztorch::Result<()> {
    let [tenant, id, secret] = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"]
        .map(|name| std::env::var(name).unwrap_or_default());
    options.set_client_secret(&tenant, &id, &secret)
}

fn blobs(url: &str, client: &Client, report: &mut Report) {
    let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let name = format!("aztorch-doctor-{}-{stamp}", std::process::id());
    let content: Vec<u8> =
        (0..SPEED_SIZE as u64).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let began = Instant::now();
    if report.check("write", write(client, url, &name, &content).map(|()| speed(SPEED_SIZE, began)).map_err(Into::into))
    {
        let (container, query) = url.split_once('?').map_or((url, String::new()), |(c, q)| (c, format!("?{q}")));
        let blob = format!("{}/{name}{query}", container.trim_end_matches('/'));
        for connections in [1, 8, 32].into_iter().filter(|_| report.has_time()).collect::<Vec<_>>() {
            let outcome = read(&blob, connections, &content);
            report.check(&format!("read, {connections} conn."), outcome);
        }
        let range = format!("bytes=0-{}", MIB - 1);
        let sums =
            client.send("GET", &blob, "", &[("x-ms-range", &range), ("x-ms-range-get-content-crc64", "true")], &[]);
        match sums.map(|answer| answer.header("x-ms-content-crc64").map(str::to_owned)) {
            Ok(Some(sum)) => drop(report.check("checksums", Ok(format!("crc64 {sum}")))),
            Ok(None) => report.note("checksums", "the service gave none"),
            Err(error) => report.note("checksums", &error.to_string()),
        }
        match client.send("PUT", &blob, "comp=snapshot", &[], &[]) {
            Ok(answer) => drop(report.check("snapshot", Ok(answer.header("x-ms-snapshot").unwrap_or("").to_owned()))),
            Err(error) => report.note("snapshot", &error.to_string()),
        }
        let version = client.send("HEAD", &blob, "", &[], &[]).ok();
        let version = version.and_then(|answer| answer.header("x-ms-version-id").map(str::to_owned));
        report.note("versions", version.as_deref().unwrap_or("off"));
        let deleted = client.send("DELETE", &blob, "", &[("x-ms-delete-snapshots", "include")], &[]);
        report.check("delete", deleted.map(|_| "and nothing is left of this".to_owned()).map_err(Into::into));
    }
}

fn write(client: &Client, url: &str, name: &str, content: &[u8]) -> aztorch::Result<()> {
    let writer = client.writer_in(url, name, WriteMode::Create)?;
    writer.write_all(content)?;
    writer.close()
}

fn read(blob: &str, connections: u32, content: &[u8]) -> Result<String> {
    let mut options = ClientOptions::new();
    options.set_max_concurrency(connections)?;
    options.set_timeout(Some(PATIENCE))?;
    let reader = Client::new(&options)?.open(blob)?;
    let mut bytes = vec![0; content.len()];
    let began = Instant::now();
    let count = reader.read(&mut bytes)?;
    if count != content.len() || bytes != content {
        return Err("other bytes came than were written".into());
    }
    Ok(speed(count, began))
}

fn speed(bytes: usize, began: Instant) -> String {
    let seconds = began.elapsed().as_secs_f64();
    format!("{} MiB in {seconds:.2} s, {:.0} MB/s", bytes / MIB, bytes as f64 / seconds / 1e6)
}

fn addresses(url: &str) -> Result<String> {
    // Nothing else of it is shown: it may be a SAS, a key or a password.
    let (_, rest) = url.split_once("://").ok_or("the argument is no URL: it does not begin with https://")?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("the URL has a user name or password, which Blob Storage does not take".into());
    }
    let with_port = if authority.rsplit(']').next().is_some_and(|rest| rest.contains(':')) {
        authority.to_owned()
    } else {
        format!("{authority}:{}", if url.starts_with("http:") { 80 } else { 443 })
    };
    let began = Instant::now();
    let found = with_port.to_socket_addrs().map_err(|error| format!("its host cannot be found: {error}"))?;
    let shown: Vec<_> = found.map(|address| format!("{} ({})", address.ip(), kind(address.ip()))).collect();
    Ok(format!("{} in {} ms", shown.join(", "), began.elapsed().as_millis()))
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

/// How many seconds the service's clock is ahead of ours.
fn skew(answer: &Answer) -> Option<i64> {
    let theirs = answer.date()?;
    let ahead =
        |later: SystemTime, earlier: SystemTime| later.duration_since(earlier).ok().map(|time| time.as_secs() as i64);
    let now = SystemTime::now();
    ahead(theirs, now).or_else(|| ahead(now, theirs).map(|seconds| -seconds))
}
