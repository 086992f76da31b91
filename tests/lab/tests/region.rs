//! The region answers as the real services do, and misbehaves as it is told.

mod support;

use anyhow::{Context as _, ensure};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use hostagent_lab::{
    clock,
    control::Client,
    region::{
        place::Service,
        switch::{ApiFault, Change, ImdsMode, Path, TlsFault, What},
    },
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use support::{Answer, LONG, Lab, get, http, plain, refuses};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

const ECS: &str = "ecs.eu-west-1.amazonaws.com";

fn resolver(lab: &Lab, timeout: Duration) -> anyhow::Result<TokioResolver> {
    let dns = lab.region.addresses().dns;
    let mut server = NameServerConfig::udp_and_tcp(dns.ip());
    for connection in &mut server.connections {
        connection.port = dns.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    builder.options_mut().timeout = timeout;
    builder.options_mut().attempts = 0;
    Ok(builder.build()?)
}

async fn look_up(resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, NetError> {
    Ok(resolver.lookup_ip(format!("{host}.")).await?.iter().collect())
}

async fn tls(lab: &Lab, ip: IpAddr, host: &str) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&lab.region.addresses().ca)? {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect((ip, lab.region.addresses().https_port)).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host.to_string())?, stream).await?)
}

async fn ask(lab: &Lab, ip: IpAddr, host: &str, method: &str, path: &str) -> anyhow::Result<Answer> {
    http(tls(lab, ip, host).await?, method, host, path, &[], "").await
}

fn only(path: Path) -> Change {
    Change::path(&[Service::Ecs], path)
}

#[tokio::test]
async fn names_lead_where_the_switch_says() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let resolver = resolver(&lab, LONG)?;
    let ecs = lab.region.addresses().services[&Service::Ecs].clone();
    let endpoints: BTreeSet<IpAddr> = ecs.endpoint.into();
    ensure!(look_up(&resolver, ECS).await? == [ecs.public]);
    lab.region.set(&only(Path::Endpoint)).await;
    let (first, second) = (look_up(&resolver, ECS).await?, look_up(&resolver, ECS).await?);
    ensure!(first != second && BTreeSet::from_iter(first) == endpoints, "answers rotate, sets stay");
    lab.region.set(&only(Path::Elsewhere)).await;
    ensure!(look_up(&resolver, ECS).await? == [ecs.elsewhere]);
    lab.region.set(&only(Path::Mixed)).await;
    ensure!(BTreeSet::from_iter(look_up(&resolver, ECS).await?) == BTreeSet::from([ecs.public, ecs.endpoint[0]]));
    lab.region.set(&only(Path::Flapping)).await;
    for _ in 0..2 {
        ensure!(look_up(&resolver, ECS).await? == [ecs.public]);
        ensure!(BTreeSet::from_iter(look_up(&resolver, ECS).await?) == endpoints);
    }
    // Numbered names stay public whatever happens.
    lab.region.set(&Change::path(&[], Path::Endpoint)).await;
    let numbered = lab.region.addresses().services[&Service::EcsAgent].numbered.clone().context("numbered")?;
    ensure!(look_up(&resolver, &numbered.0).await? == [numbered.1]);
    Ok(())
}

#[tokio::test]
async fn failures_of_the_name_server_can_be_told_apart() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let patient = resolver(&lab, LONG)?;
    let nothing = |result: Result<Vec<IpAddr>, NetError>| result.err().context("an answer");
    let unknown = nothing(look_up(&patient, "sqs.eu-west-1.amazonaws.com").await)?;
    ensure!(unknown.is_nx_domain(), "{unknown}");
    lab.region.set(&only(Path::Nxdomain)).await;
    let error = nothing(look_up(&patient, ECS).await)?;
    ensure!(error.is_nx_domain(), "{error}");
    lab.region.set(&only(Path::Empty)).await;
    let error = nothing(look_up(&patient, ECS).await)?;
    ensure!(error.is_no_records_found() && !error.is_nx_domain(), "{error}");
    lab.region.set(&only(Path::Servfail)).await;
    let error = nothing(look_up(&patient, ECS).await)?;
    ensure!(!error.is_no_records_found() && error.to_string().to_lowercase().contains("server failure"), "{error}");
    let hasty = resolver(&lab, Duration::from_millis(300))?;
    lab.region.set(&only(Path::Timeout)).await;
    let error = nothing(look_up(&hasty, ECS).await)?;
    ensure!(matches!(error, NetError::Timeout), "{error:?}");
    lab.region.set(&only(Path::Malformed)).await;
    nothing(look_up(&hasty, ECS).await)?;
    Ok(())
}

/// What was switched since is not seen until the cache has let the old answer go; until then its TTL runs down.
#[tokio::test]
async fn a_cache_counts_ttls_down_and_keeps_what_it_has() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let resolver = resolver(&lab, LONG)?;
    let ecs = lab.region.addresses().services[&Service::Ecs].clone();
    let endpoints: BTreeSet<IpAddr> = ecs.endpoint.into();
    lab.region.set(&Change { ttl: Some(2), cached: Some(true), ..only(Path::Public) }).await;
    ensure!(look_up(&resolver, ECS).await? == [ecs.public]);
    lab.region.set(&only(Path::Endpoint)).await;
    let mut left = BTreeSet::new();
    let began = tokio::time::Instant::now();
    let fresh = loop {
        let found = resolver.lookup_ip(format!("{ECS}.")).await?;
        left.extend(found.as_lookup().answers().iter().map(|record| record.ttl));
        let ips: BTreeSet<IpAddr> = found.iter().collect();
        if ips != BTreeSet::from([ecs.public]) {
            break ips;
        }
        ensure!(began.elapsed() < LONG, "the old answer stays for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    ensure!(fresh == endpoints, "{fresh:?}");
    ensure!(left == BTreeSet::from([0, 1, 2]), "counted down, and begun anew: {left:?}");
    lab.region.set(&Change { cached: Some(false), ..only(Path::Public) }).await;
    ensure!(look_up(&resolver, ECS).await? == [ecs.public], "asked directly");
    Ok(())
}

#[tokio::test]
async fn ttls_and_the_log_tell_what_was_asked() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.region.set(&Change { ttl: Some(7), ..Change::default() }).await;
    let found = resolver(&lab, LONG)?.lookup_ip(format!("{ECS}.")).await?;
    ensure!(found.as_lookup().answers().iter().all(|record| record.ttl == 7), "{found:?}");
    lab.region
        .wait_for(
            0,
            LONG,
            |event| matches!(&event.what, What::Dns { name, answer, .. } if name == ECS && answer == &["127.0.100.10"]),
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn each_service_answers_as_itself_and_nobody_else() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    for (service, at) in lab.region.addresses().services.clone() {
        for ip in [at.public, at.endpoint[0], at.endpoint[1], at.elsewhere] {
            tls(&lab, ip, &at.host).await.with_context(|| format!("{service:?} at {ip}"))?;
        }
    }
    let at = |service| lab.region.addresses().services[&service].clone();
    let wrong = tls(&lab, at(Service::Logs).public, ECS).await.err().context("a certificate for another name")?;
    ensure!(format!("{wrong:#}").contains("not valid for name"), "{wrong:#}");

    let registry = at(Service::EcrDkr);
    let answer = ask(&lab, registry.endpoint[0], &registry.host, "GET", "/v2/").await?;
    ensure!(answer.status == 401 && answer.header("Docker-Distribution-Api-Version") == Some("registry/2.0"));
    let s3 = at(Service::S3);
    let answer = ask(&lab, s3.public, &s3.host, "HEAD", "/").await?;
    ensure!(answer.header("server") == Some("AmazonS3") && answer.header("x-amz-request-id").is_some());
    // The address and the certificate are right; the host asked for is another service's.
    let logs = at(Service::Logs);
    let stray = http(tls(&lab, logs.public, &logs.host).await?, "GET", ECS, "/", &[], "").await?;
    ensure!(stray.status == 400 && stray.body.contains("is not served here"), "{} {}", stray.status, stray.body);
    let answer = ask(&lab, at(Service::Kms).public, &at(Service::Kms).host, "GET", "/").await?;
    ensure!(answer.status == 404 && answer.header("x-amzn-requestid").is_some());
    Ok(())
}

#[tokio::test]
async fn tls_faults_hit_the_endpoint_way_only() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ecs = lab.region.addresses().services[&Service::Ecs].clone();
    let fault = |tls| Change { services: vec![Service::Ecs], tls: Some(tls), ..Change::default() };
    for (which, words) in [(TlsFault::WrongName, "not valid for name"), (TlsFault::Untrusted, "UnknownIssuer")] {
        lab.region.set(&fault(which)).await;
        let error = tls(&lab, ecs.endpoint[1], ECS).await.err().context("accepted")?;
        ensure!(format!("{error:#}").contains(words), "{which:?}: {error:#}");
        tls(&lab, ecs.public, ECS).await?;
    }
    lab.region.set(&fault(TlsFault::Hang)).await;
    let hanging = tokio::time::timeout(Duration::from_millis(300), tls(&lab, ecs.endpoint[0], ECS)).await;
    ensure!(hanging.is_err(), "the handshake was answered");
    Ok(())
}

#[tokio::test]
async fn dead_addresses_refuse_and_come_back() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ecs = lab.region.addresses().services[&Service::Ecs].clone();
    let address = |ip| SocketAddr::new(ip, lab.region.addresses().https_port);
    let change = |dead| Change { services: vec![Service::Ecs], dead: Some(dead), ..Change::default() };
    lab.region.set(&change(1)).await;
    ensure!(refuses(address(ecs.endpoint[0])) && !refuses(address(ecs.endpoint[1])));
    lab.region.set(&change(2)).await;
    ensure!(refuses(address(ecs.endpoint[1])) && !refuses(address(ecs.public)));
    lab.region.set(&change(0)).await;
    tls(&lab, ecs.endpoint[0], ECS).await?;
    Ok(())
}

#[tokio::test]
async fn the_api_wants_a_target_and_a_signature() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ip = lab.region.addresses().services[&Service::Ecs].public;
    let target = ("x-amz-target", "AmazonEC2ContainerServiceV20141113.DiscoverPollEndpoint");
    let json = ("content-type", "application/x-amz-json-1.1");
    let post =
        async |headers: Vec<(&str, &str)>| http(tls(&lab, ip, ECS).await?, "POST", ECS, "/", &headers, "{}").await;
    let kind = |answer: &Answer| {
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
        body["__type"].as_str().unwrap_or_default().to_string()
    };
    let answer = post(vec![json]).await?;
    ensure!(answer.status == 400 && kind(&answer) == "UnknownOperationException", "{}", answer.body);
    let answer = post(vec![json, target]).await?;
    ensure!(answer.status == 400 && kind(&answer) == "MissingAuthenticationTokenException", "{}", answer.body);
    let answer = post(vec![json, target, ("authorization", "Bearer x")]).await?;
    ensure!(kind(&answer) == "IncompleteSignatureException", "{}", answer.body);
    let signed = async |day: &str, date: &str, region: &str| {
        let signature = "0123456789abcdef".repeat(4);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=ASIAX/{day}/{region}/ecs/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={signature}"
        );
        post(vec![json, target, ("authorization", &authorization), ("x-amz-date", date)]).await
    };
    let now = clock::compact(clock::unix_ms() / 1_000);
    let today = &now[..8];
    let answer = signed(today, &now, "us-east-1").await?;
    ensure!(answer.status == 403 && answer.body.contains("scoped to a valid region"), "{}", answer.body);
    let answer = signed("20200101", "20200101T000000Z", "eu-west-1").await?;
    ensure!(answer.status == 403 && answer.body.contains("Signature expired"), "{}", answer.body);
    let answer = signed(today, &now, "eu-west-1").await?;
    ensure!(answer.status == 400 && kind(&answer) == "UnrecognizedClientException", "a key nobody gave out");
    ensure!(lab.region.events_after(0).iter().any(|event| matches!(
        &event.what,
        What::Api { action, status: 400, detail, .. }
            if action == "DiscoverPollEndpoint" && detail == "UnrecognizedClientException"
    )));
    Ok(())
}

#[tokio::test]
async fn the_metadata_service_wants_a_token() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let imds = lab.region.addresses().imds;
    ensure!(get(imds, "/latest/meta-data/instance-id", &[]).await?.0 == 401);
    ensure!(plain("PUT", imds, "/latest/api/token", &[]).await?.0 == 400, "a token needs a life");
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
    let (status, token) = plain("PUT", imds, "/latest/api/token", &[ttl]).await?;
    ensure!(status == 200);
    let ask = async |path: &str| get(imds, path, &[("x-aws-ec2-metadata-token", &token)]).await;
    ensure!(ask("/latest/meta-data/instance-id").await? == (200, "i-0f00dfacade00001".into()));
    let (_, mac) = ask("/latest/meta-data/network/interfaces/macs/").await?;
    let (_, blocks) = ask(&format!("/latest/meta-data/network/interfaces/macs/{mac}vpc-ipv4-cidr-blocks")).await?;
    ensure!(blocks == "127.0.51.0/24\n127.0.52.0/24", "{blocks}");
    ensure!(ask(&format!("/latest/meta-data/network/interfaces/macs/{mac}vpc-ipv6-cidr-blocks")).await?.0 == 404);
    let (_, document) = ask("/latest/dynamic/instance-identity/document").await?;
    ensure!(document.contains("\"accountId\": \"111122223333\""), "{document}");

    lab.region.set(&Change { imds: Some(ImdsMode::Malformed), ..Change::default() }).await;
    ensure!(ask("/latest/meta-data/placement/region").await?.1.contains("<html>"));
    lab.region.set(&Change { imds: Some(ImdsMode::Down), ..Change::default() }).await;
    ensure!(refuses(imds));
    Ok(())
}

#[tokio::test]
async fn the_control_api_is_as_good_as_the_handle() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let client = Client::new(lab.region.addresses().control.clone());
    let fault = ApiFault { status: 400, kind: "AccessDeniedException".into(), message: "no".into() };
    let api = [("*".to_string(), Some(fault.clone()))].into();
    let change = Change { services: vec![Service::S3], path: Some(Path::Servfail), api, ..Change::default() };
    let state = client.set(&change).await?;
    ensure!(state.switches == lab.region.switches() && state.switches.api.get("*") == Some(&fault));
    ensure!(state.switches.services[&Service::S3].path == Path::Servfail);
    ensure!(state.switches.services[&Service::Ecs].path == Path::Public);
    // A poll that waits is ended by the event.
    let waiting = tokio::spawn({
        let (client, after) = (client.clone(), state.last_event);
        async move { client.events(after, LONG).await }
    });
    look_up(&resolver(&lab, LONG)?, ECS).await?;
    let events = waiting.await??;
    ensure!(events.iter().all(|event| matches!(event.what, What::Dns { .. })) && !events.is_empty(), "{events:?}");
    let taken = hostagent_lab::region::Region::start(hostagent_lab::region::RegionConfig::loopback(
        lab.dir.path().join("region"),
    ));
    let error = taken.await.err().context("two regions with one control socket")?;
    ensure!(error.to_string().contains("running already"), "{error:#}");
    drop(lab);
    ensure!(client.state().await.is_err(), "a dropped region is gone");
    Ok(())
}
