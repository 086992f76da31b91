//! The metadata adapter against a stand-in of the service that answers well, badly and not at all.

use crate::support::{AMPLE, SHORT, closed_port, serve, silent};
use axum::{
    Router,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use hostagent::{
    facts::{Instance, Missing},
    ports::{Metadata, imds::Imds},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

const TOKEN: &str = "x-aws-ec2-metadata-token";
const MACS: &str = "/latest/meta-data/network/interfaces/macs/";
const DOCUMENT: &str = "/latest/dynamic/instance-identity/document";
const REGION: &str = "/latest/meta-data/placement/region";

#[derive(Clone)]
struct Fake {
    answers: BTreeMap<String, (u16, String)>,
    tokens: Arc<AtomicUsize>,
    token_status: u16,
}

impl Fake {
    fn new() -> Self {
        let mut answers = BTreeMap::new();
        for (path, text) in [
            ("/latest/meta-data/instance-id", "i-0f00dfacade00001"),
            (REGION, "eu-west-1"),
            ("/latest/meta-data/placement/availability-zone", "eu-west-1a"),
            ("/latest/meta-data/services/domain", "amazonaws.com"),
            ("/latest/meta-data/services/partition", "aws"),
            (DOCUMENT, "{\n  \"accountId\" : \"111122223333\",\n  \"region\" : \"eu-west-1\"\n}"),
            (MACS, "0e:49:61:0f:c3:11/\n0e:49:61:0f:c3:12/\n"),
        ] {
            answers.insert(path.to_owned(), (200, text.to_owned()));
        }
        let mut fake = Self { answers, tokens: Arc::default(), token_status: 200 };
        fake.mac("11", "vpc-ipv4-cidr-blocks", 200, "10.50.0.0/17\n100.64.0.0/16");
        fake.mac("12", "vpc-ipv4-cidr-blocks", 200, "10.50.0.0/17");
        fake.mac("12", "vpc-ipv6-cidr-blocks", 200, "2001:db8:1::/56");
        fake
    }

    fn mac(&mut self, mac: &str, item: &str, status: u16, text: &str) {
        self.set(&format!("{MACS}0e:49:61:0f:c3:{mac}/{item}"), status, text);
    }

    fn set(&mut self, path: &str, status: u16, text: &str) {
        self.answers.insert(path.to_owned(), (status, text.to_owned()));
    }

    async fn look(self) -> Result<Instance, Missing> {
        let base = serve(Router::new().fallback(answer).with_state(self)).await;
        Imds::new(&base, AMPLE).instance().await
    }

    async fn why(self) -> String {
        self.look().await.unwrap_err().to_string()
    }
}

async fn answer(State(fake): State<Fake>, request: Request) -> Response {
    let path = request.uri().path();
    if path == "/latest/api/token" && request.method() == Method::PUT {
        fake.tokens.fetch_add(1, Ordering::SeqCst);
        let status = StatusCode::from_u16(fake.token_status).unwrap();
        return (status, [("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "token").into_response();
    }
    if request.headers().get(TOKEN).is_none_or(|token| token != "token") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match fake.answers.get(path) {
        Some((status, text)) => (StatusCode::from_u16(*status).unwrap(), text.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test]
async fn the_host_is_placed_with_one_token() {
    let fake = Fake::new();
    let tokens = fake.tokens.clone();
    let instance = fake.look().await.unwrap();
    let expected = Instance {
        instance_id: "i-0f00dfacade00001".into(),
        account: "111122223333".into(),
        region: "eu-west-1".into(),
        partition: "aws".into(),
        dns_suffix: "amazonaws.com".into(),
        availability_zone: "eu-west-1a".into(),
        vpc_cidrs: ["10.50.0.0/17", "100.64.0.0/16", "2001:db8:1::/56"].map(|cidr| cidr.parse().unwrap()).into(),
    };
    assert_eq!(instance, expected);
    assert_eq!(tokens.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn malformed_answers_are_quoted_with_their_path() {
    let html = "<html><head><title>Captive portal: please log in to go on, dear guest</title></head></html>";
    let v4 = format!("{MACS}0e:49:61:0f:c3:11/vpc-ipv4-cidr-blocks");
    for (path, text, expected) in [
        (REGION, html, format!("the answer is not an identifier: \"{}…\"", &html[..60])),
        (MACS, html, format!("the answer is not a list of MAC addresses: \"{}…\"", &html[..60])),
        (MACS, "../../x y/\n", "the answer is not a list of MAC addresses: \"../../x y/\"".into()),
        (MACS, "", "the answer names no network interface: \"\"".into()),
        (DOCUMENT, "{\"accountId\":", "the answer is not JSON: \"{\"accountId\":\"".into()),
        (DOCUMENT, "{}", "the answer has no accountId: \"{}\"".into()),
        (&v4, "10.50.0.0/99", "the answer is not a list of CIDR blocks: \"10.50.0.0/99\"".into()),
        (&v4, " ", "the answer names no CIDR block: \"\"".into()),
    ] {
        let mut fake = Fake::new();
        fake.set(path, 200, text);
        let why = fake.why().await;
        let start = format!("instance metadata {path} (http://127.0.0.1:");
        assert!(why.starts_with(&start) && why.contains(&expected), "{why}\n{expected}");
    }
}

#[tokio::test]
async fn only_ipv6_blocks_may_be_absent() {
    for (item, status, expected) in [
        ("vpc-ipv4-cidr-blocks", 404, "the service has no such path (404)"),
        ("vpc-ipv4-cidr-blocks", 403, "the service says 403: it is switched off"),
        ("vpc-ipv6-cidr-blocks", 400, "the service says 400"),
    ] {
        let mut fake = Fake::new();
        fake.mac("11", item, status, "");
        let why = fake.why().await;
        assert!(why.contains(item) && why.contains(expected), "{why}");
    }
    let mut fake = Fake::new();
    fake.answers.remove(REGION);
    assert!(fake.why().await.contains("the service has no such path (404)"));
}

#[tokio::test]
async fn an_unreachable_service_is_named() {
    let look = async |base: String, deadline| Imds::new(&base, deadline).instance().await.unwrap_err().to_string();
    let why = look(format!("http://{}", closed_port()), AMPLE).await;
    assert!(why.contains("no session token: connection refused") && why.contains("hop limit"), "{why}");
    let why = look(format!("http://{}", silent().await), SHORT).await;
    assert!(why.contains("no answer within 300 ms"), "{why}");
    for base in ["", "169.254.169.254", "ftp://x", "http://a b"] {
        assert!(look(base.into(), AMPLE).await.contains("correct instance.imds"), "{base}");
    }
    let fake = Fake { token_status: 403, ..Fake::new() };
    let why = fake.why().await;
    assert!(why.contains("no session token: request forbidden"), "{why}");
}
