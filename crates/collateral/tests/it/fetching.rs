//! The client before services that answer well, badly, and not at all.

use std::time::Duration;

use marblerun_collateral::{Client, ClientOptions, FetchError, ServerCertificate, TcbUpdate, prove};
use marblerun_software_tee::PckCa;

use crate::service::{NOW, Reply, Service, Vendor, at};

/// Long enough for loopback, short enough for a test that waits for it.
const SHORT: Duration = Duration::from_millis(300);

async fn fetch(service: &Service, vendor: &Vendor) -> Result<Vec<u8>, FetchError> {
    Client::new(service.options()).fetch(&vendor.platform()).await
}

/// All items are answered with `reply`.
async fn refusal(reply: Reply) -> FetchError {
    let vendor = Vendor::new(PckCa::Platform);
    let service = Service::start(reply).await;
    let error = fetch(&service, &vendor).await.unwrap_err();
    assert!(error.to_string().starts_with(&service.url.to_string()), "{error}");
    assert!(error.hint().is_some(), "{error}");
    error
}

// rules: ATT-2.1, ATT-2.2
#[tokio::test]
async fn what_a_service_answers_is_proven_as_it_was_served() {
    for pck_ca in [PckCa::Platform, PckCa::Processor] {
        let vendor = Vendor::new(pck_ca);
        let good = vendor.good();
        let service = Service::start(Reply::Collateral(good.clone())).await;
        let text = fetch(&service, &vendor).await.unwrap();
        let trusted = prove(&text, &vendor.platform(), &vendor.roots(), at(NOW)).unwrap();
        let expected = prove(good.as_bytes(), &vendor.platform(), &vendor.roots(), at(NOW)).unwrap();
        assert_eq!(trusted.evaluation_numbers(), expected.evaluation_numbers());
        let requests = service.requests();
        assert_eq!(requests.len(), 4, "{requests:?}");
        let ca = vendor.platform().ca.name();
        assert!(requests.iter().any(|head| head.contains(&format!("pckcrl?ca={ca}&encoding=der"))), "{requests:?}");
        assert!(requests.iter().all(|head| head.to_lowercase().contains("\r\nhost: 127.0.0.1:")), "{requests:?}");
    }
}

#[tokio::test]
async fn the_early_publication_is_asked_for_on_request() {
    let vendor = Vendor::new(PckCa::Platform);
    let service = Service::start(Reply::Collateral(vendor.good())).await;
    let options = ClientOptions { tcb_update: TcbUpdate::Early, ..service.options() };
    Client::new(options).fetch(&vendor.platform()).await.unwrap();
    let early = service.requests().iter().filter(|head| head.contains("update=early")).count();
    assert_eq!(early, 2, "TCB info and QE identity");
}

// rules: ATT-11.3
#[tokio::test]
async fn each_status_has_its_meaning() {
    for (line, status) in [("400 x", 400), ("401 x", 401), ("500 x", 500), ("204 x", 204), ("206 x", 206)] {
        let error = refusal(Reply::status(line)).await;
        assert!(matches!(error, FetchError::Status { status: got, .. } if got == status), "{error}");
    }
    for (line, status) in [("404 x", 404), ("410 x", 410)] {
        let error = refusal(Reply::status(line)).await;
        assert!(matches!(error, FetchError::UnknownPlatform { status: got, .. } if got == status), "{error}");
        assert!(error.to_string().contains("FF5357544545") && error.is_lasting(), "{error}");
    }
    for line in ["429 x", "503 x"] {
        let error = refusal(Reply::status(&format!("{line}\r\nRetry-After: 30"))).await;
        assert_eq!(error.retry_after(), Some(Duration::from_secs(30)), "{error}");
        let error = refusal(Reply::status(line)).await;
        assert!(matches!(error, FetchError::Throttled { retry_after: None, .. }) && !error.is_lasting(), "{error}");
    }
}

// rules: ATT-11.3, ATT-11.5
#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    let elsewhere = Service::start(Reply::status("200 OK")).await;
    for line in ["301 x", "302 x", "307 x", "308 x"] {
        let error = refusal(Reply::status(&format!("{line}\r\nLocation: {}", elsewhere.url))).await;
        assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
    }
    assert!(elsewhere.requests().is_empty());
}

// rules: ATT-2.2, ATT-11.3
#[tokio::test]
async fn a_body_above_the_limit_is_not_read_to_its_end() {
    let error = refusal(Reply::Endless(&[b' '; 64 * 1024])).await;
    assert!(matches!(error, FetchError::TooLarge { max: 0x10_0000, .. }), "{error}");
    let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", 2 << 20, " ".repeat(2 << 20));
    let error = refusal(Reply::Raw(announced.into())).await;
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
}

// rules: ATT-11.3
#[tokio::test]
async fn what_is_no_answer_is_refused() {
    for garbage in ["", "\0\0\0\0", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"] {
        let error = refusal(Reply::Raw(garbage.into())).await;
        assert!(matches!(error, FetchError::Http { .. }), "{error}");
    }
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let error = refusal(Reply::Raw(head.into())).await;
    assert!(matches!(error, FetchError::Http { .. }), "{error}");
    let error = refusal(Reply::Raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".into())).await;
    assert!(matches!(error, FetchError::SignedText { .. } | FetchError::Crl { .. }), "{error}");
}

// rules: ATT-2.2, ATT-11.3, R18
#[tokio::test]
async fn a_service_that_says_nothing_is_left_after_the_time_limit() {
    let vendor = Vendor::new(PckCa::Platform);
    for reply in [Reply::Silence, Reply::Raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".into())] {
        let service = Service::start(Reply::Collateral(vendor.good())).await;
        service.reply_to("qe/identity", reply.clone());
        let options = ClientOptions { timeout: SHORT, ..service.options() };
        let error = Client::new(options).fetch(&vendor.platform()).await.unwrap_err();
        match reply {
            Reply::Silence => assert!(matches!(error, FetchError::Timeout { limit: SHORT, .. }), "{error}"),
            // The connection ended before the body did.
            _ => assert!(matches!(error, FetchError::Http { .. }), "{error}"),
        }
        assert!(error.to_string().contains("/qe/identity"), "{error}");
    }
}

#[tokio::test]
async fn where_nobody_listens_the_address_is_named() {
    let vendor = Vendor::new(PckCa::Platform);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/sgx/certification/v4/").parse().unwrap();
    let error = Client::new(ClientOptions::new(url)).fetch(&vendor.platform()).await.unwrap_err();
    assert!(matches!(&error, FetchError::Connect { reason, .. } if reason.contains("127.0.0.1")), "{error}");
}

#[tokio::test]
async fn a_server_that_no_authority_knows_is_refused_unless_any_is_allowed() {
    let vendor = Vendor::new(PckCa::Platform);
    let service = Service::start_tls(Reply::Collateral(vendor.good())).await;
    let error = fetch(&service, &vendor).await.unwrap_err();
    assert!(matches!(error, FetchError::Tls { .. }), "{error}");
    assert!(service.requests().is_empty(), "nothing was asked over such a connection");
    let options = ClientOptions { server_certificate: ServerCertificate::Any, ..service.options() };
    let text = Client::new(options).fetch(&vendor.platform()).await.unwrap();
    prove(&text, &vendor.platform(), &vendor.roots(), at(NOW)).unwrap();
}

#[tokio::test]
async fn tls_and_plain_text_are_told_apart() {
    let vendor = Vendor::new(PckCa::Platform);
    let plain = Service::start(Reply::status("400 x")).await;
    let url = plain.url.to_string().replace("http://", "https://").parse().unwrap();
    let options = ClientOptions { timeout: SHORT, ..ClientOptions::new(url) };
    let error = Client::new(options).fetch(&vendor.platform()).await.unwrap_err();
    // The test's server waits for the end of a head that never comes.
    assert!(matches!(error, FetchError::Tls { .. } | FetchError::Timeout { .. }), "{error}");
    let tls = Service::start_tls(Reply::status("400 x")).await;
    let url = tls.url.to_string().replace("https://", "http://").parse().unwrap();
    let error = Client::new(ClientOptions::new(url)).fetch(&vendor.platform()).await.unwrap_err();
    assert!(matches!(error, FetchError::Http { .. }), "{error}");
}

// rules: ATT-2.2
#[tokio::test]
async fn collateral_for_another_platform_or_root_is_not_proven() {
    let (vendor, other) = (Vendor::new(PckCa::Platform), Vendor::new(PckCa::Platform));
    let options = marblerun_software_tee::CollateralOptions { fmspc: [1; 6], ..Default::default() };
    for collateral in [vendor.collateral(&options), other.good()] {
        let service = Service::start(Reply::Collateral(collateral)).await;
        let text = fetch(&service, &vendor).await.unwrap();
        let error = prove(&text, &vendor.platform(), &vendor.roots(), at(NOW)).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
    }
}

/// Like [`refusal`], where the service may keep us waiting.
async fn refusal_in_time(reply: Reply) -> FetchError {
    let vendor = Vendor::new(PckCa::Platform);
    let service = Service::start(reply).await;
    let options = ClientOptions { timeout: SHORT, ..service.options() };
    let began = std::time::Instant::now();
    let error = Client::new(options).fetch(&vendor.platform()).await.unwrap_err();
    assert!(began.elapsed() < SHORT * 10, "{:?}", began.elapsed());
    assert!(error.hint().is_some() && error.to_string().len() < 1024, "{error}");
    error
}

// rules: ATT-11.3
#[tokio::test]
async fn heads_that_are_meant_to_confuse_are_refused() {
    let many = "X: y\r\n".repeat(100_000);
    let informational = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000);
    for head in [
        format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\n{{}}"),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n{}".to_owned(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}\r\n", "x".repeat(1 << 20)),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{many}\r\n"),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_owned(),
        informational,
    ] {
        let shown: String = head.chars().take(80).collect();
        let error = refusal_in_time(Reply::Raw(head.into())).await;
        assert!(
            matches!(error, FetchError::Http { .. } | FetchError::Status { .. } | FetchError::Timeout { .. }),
            "{shown}: {error}"
        );
    }
    // A length beside chunks: one body is read, whatever it is.
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    refusal_in_time(Reply::Raw(both.into())).await;
}

// rules: ATT-11.3
#[tokio::test]
async fn a_content_encoding_is_not_undone() {
    // What would be a gigabyte stays the few bytes that came.
    let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n";
    let body = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
    let error = refusal_in_time(Reply::Raw([&head[..], body].concat())).await;
    assert!(matches!(error, FetchError::SignedText { .. } | FetchError::Crl { .. }), "{error}");
}

#[tokio::test]
async fn a_chain_that_is_no_text_or_too_long_is_refused() {
    let vendor = Vendor::new(PckCa::Platform);
    let service = Service::start(Reply::Collateral(vendor.good())).await;
    let good: serde_json::Value = serde_json::from_str(&vendor.good()).unwrap();
    let chain = good["tcb_info_issuer_chain"].as_str().unwrap().replace('\n', "%0A").replace(' ', "%20");
    let body =
        format!("{{\"tcbInfo\":{},\"signature\":{}}}", good["tcb_info"].as_str().unwrap(), good["tcb_info_signature"]);
    let with = |chain: &[u8]| {
        let head = format!("\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        Reply::Raw([b"HTTP/1.1 200 OK\r\nTCB-Info-Issuer-Chain: ", chain, head.as_bytes()].concat())
    };
    service.reply_to("tcb?", with(chain.as_bytes()));
    let text = fetch(&service, &vendor).await.unwrap();
    prove(&text, &vendor.platform(), &vendor.roots(), at(NOW)).unwrap();
    for wrong in [&b"\xff\xfe"[..], b"%FF%FE", b"-----BEGIN CERTIFICATE-----%FF", b"", b"x"] {
        service.reply_to("tcb?", with(wrong));
        let error = fetch(&service, &vendor).await.unwrap_err();
        assert!(matches!(error, FetchError::IssuerChain { header: "TCB-Info-Issuer-Chain", .. }), "{error}");
    }
    // As many certificates as fit into a head, and more.
    service.reply_to("tcb?", with(chain.repeat(20).as_bytes()));
    let error = fetch(&service, &vendor).await.unwrap_err();
    assert!(matches!(error, FetchError::Collateral { .. }), "{error}");
    service.reply_to("tcb?", with(chain.repeat(1000).as_bytes()));
    let error = fetch(&service, &vendor).await.unwrap_err();
    assert!(matches!(error, FetchError::Http { .. }), "{error}");
}
