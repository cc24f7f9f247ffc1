//! From a request and the rules to an answer.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, InvalidHeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use rustls_pki_types::UnixTime;

use crate::collateral::{CollateralOptions, SignedText};
use crate::error::IssueError;
use crate::root::DevelopmentRoot;
use crate::service::body::AnswerBody;
use crate::service::misbehaviour::{CrlForm, IssuerChain, Misbehaviour, Rule};
use crate::service::request::{Asked, ELSEWHERE};

const TCB_INFO_CHAIN: &str = "TCB-Info-Issuer-Chain";
const OLD_TCB_INFO_CHAIN: &str = "SGX-TCB-Info-Issuer-Chain";
const QE_IDENTITY_CHAIN: &str = "SGX-Enclave-Identity-Issuer-Chain";
const PCK_CRL_CHAIN: &str = "SGX-PCK-CRL-Issuer-Chain";
const NUMBERS_CHAIN: &str = "TCB-Evaluation-Data-Numbers-Issuer-Chain";

/// What happens to a request.
pub(super) enum Reaction {
    Answer(Response<AnswerBody>),
    /// The connection ends, after these bytes.
    Break(&'static [u8]),
    /// Nothing, ever.
    Silence,
}

/// Why there is no answer; the client sees 500.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Header(#[from] InvalidHeaderValue),
    #[error(transparent)]
    Http(#[from] hyper::http::Error),
}

/// A good answer, before anything is done to it.
struct Content {
    kind: &'static str,
    bytes: Bytes,
    /// Name of the header with the issuer chain, and the chain in PEM.
    chain: Option<(&'static str, String)>,
}

/// What the vendor `root` answers at `now`, for platforms with these FMSPCs.
pub(super) fn react<B>(
    root: &DevelopmentRoot,
    platforms: &[[u8; 6]],
    rules: &[Rule],
    now: UnixTime,
    request: &Request<B>,
) -> Result<Reaction, AnswerError> {
    if request.method() != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED);
    }
    let asked = match Asked::parse(request.uri()) {
        Ok(asked) => asked,
        Err(refused) => return refuse(refused.0),
    };
    let rules: Vec<&Misbehaviour> =
        rules.iter().filter(|rule| asked.is_in(rule.scope)).map(|rule| &rule.misbehaviour).collect();
    let mut options = CollateralOptions { fmspc: root.fmspc(), ..CollateralOptions::default() };
    if let Asked::TcbInfo { fmspc, .. } = asked {
        options.fmspc = fmspc;
    }
    rules.iter().for_each(|rule| rule.bend(&mut options, now));

    // What the rules do instead of an answer.
    let was_redirected = request.uri().path().starts_with(ELSEWHERE);
    for rule in &rules {
        match rule {
            Misbehaviour::Silence => return Ok(Reaction::Silence),
            Misbehaviour::Closed => return Ok(Reaction::Break(b"")),
            Misbehaviour::Garbage => return Ok(Reaction::Break(b"\x16\x03\x01 this is no HTTP\r\n\r\n\0\0\0\0")),
            Misbehaviour::Http(code) => {
                return refuse(StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
            }
            Misbehaviour::TooManyRequests(retry_after) => {
                let mut response = Response::builder().status(StatusCode::TOO_MANY_REQUESTS);
                if let Some(seconds) = retry_after {
                    response = response.header(RETRY_AFTER, *seconds);
                }
                return Ok(Reaction::Answer(response.body(AnswerBody::whole(Bytes::new()))?));
            }
            Misbehaviour::Redirect(to) if !was_redirected => {
                let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
                let location = match to {
                    Some(url) => format!("{url}{target}"),
                    None => format!("{ELSEWHERE}{target}"),
                };
                let response = Response::builder().status(StatusCode::FOUND).header(LOCATION, location);
                return Ok(Reaction::Answer(response.body(AnswerBody::whole(Bytes::new()))?));
            }
            Misbehaviour::WrongContent => {
                let response = Response::builder().header(CONTENT_TYPE, "text/html");
                let page = "<html><body>Please sign in to use this network</body></html>";
                return Ok(Reaction::Answer(response.body(AnswerBody::whole(page))?));
            }
            Misbehaviour::Endless => {
                return Ok(Reaction::Answer(Response::new(AnswerBody::endless())));
            }
            _ => {}
        }
    }

    let is_unknown = matches!(asked, Asked::TcbInfo { fmspc, .. } if !platforms.contains(&fmspc));
    if is_unknown {
        return refuse(StatusCode::NOT_FOUND);
    }
    match asked.number() {
        Some(number) if number < options.evaluation_number => return refuse(StatusCode::GONE),
        Some(number) if number > options.evaluation_number => return refuse(StatusCode::NOT_FOUND),
        _ => {}
    }
    let content = content(root, &asked, &rules, now, &options)?;
    let fault = rules.iter().find_map(|rule| match rule {
        Misbehaviour::IssuerChain(fault) => Some(*fault),
        _ => None,
    });
    let mut response = Response::builder().header(CONTENT_TYPE, content.kind);
    if let Some((name, chain)) = &content.chain {
        for (name, value) in chain_headers(root, name, chain, fault) {
            response = response.header(name, HeaderValue::from_str(&value)?);
        }
    }
    let body = match rules.iter().rfind(|rule| is_body_fault(rule)) {
        Some(Misbehaviour::OverLong) => AnswerBody::over_long(content.bytes),
        Some(Misbehaviour::Cut) => AnswerBody::cut(content.bytes),
        Some(Misbehaviour::EmptyBody) => AnswerBody::whole(Bytes::new()),
        _ => AnswerBody::whole(content.bytes),
    };
    Ok(Reaction::Answer(response.body(body)?))
}

fn is_body_fault(rule: &Misbehaviour) -> bool {
    matches!(rule, Misbehaviour::OverLong | Misbehaviour::Cut | Misbehaviour::EmptyBody)
}

fn refuse(status: StatusCode) -> Result<Reaction, AnswerError> {
    Ok(Reaction::Answer(Response::builder().status(status).body(AnswerBody::whole(Bytes::new()))?))
}

fn content(
    root: &DevelopmentRoot,
    asked: &Asked,
    rules: &[&Misbehaviour],
    now: UnixTime,
    options: &CollateralOptions,
) -> Result<Content, AnswerError> {
    let ca = match asked {
        Asked::PckCrl { ca, .. } => *ca,
        _ => root.pck_ca(),
    };
    let form = |asked: CrlForm| {
        let ordered = rules.iter().find_map(|rule| match rule {
            Misbehaviour::CrlForm(form) => Some(*form),
            _ => None,
        });
        ordered.unwrap_or(asked)
    };
    let items = root.collateral_items(ca, now, options)?;
    Ok(match asked {
        Asked::TcbInfo { .. } => signed("tcbInfo", TCB_INFO_CHAIN, &items.tcb_info),
        Asked::QeIdentity { .. } => signed("enclaveIdentity", QE_IDENTITY_CHAIN, &items.qe_identity),
        Asked::EvaluationNumbers => {
            signed("tcbEvaluationDataNumbers", NUMBERS_CHAIN, &root.evaluation_numbers(now, options)?)
        }
        Asked::PckCrl { form: asked, .. } => {
            let (kind, bytes) = crl(&items.pck_crl, form(*asked))?;
            Content { kind, bytes, chain: Some((PCK_CRL_CHAIN, items.pck_crl_issuer_chain)) }
        }
        Asked::RootCrl { form: asked } => {
            let (kind, bytes) = crl(&items.root_crl, form(*asked))?;
            Content { kind, bytes, chain: None }
        }
    })
}

/// The signed text stands in the body byte for byte.
fn signed(member: &str, header: &'static str, signed: &SignedText<'_>) -> Content {
    let body = format!("{{\"{member}\":{},\"signature\":\"{}\"}}", signed.text, hex::encode(&signed.signature));
    Content { kind: "application/json", bytes: body.into(), chain: Some((header, signed.issuer_chain.to_owned())) }
}

fn crl(der: &[u8], form: CrlForm) -> Result<(&'static str, Bytes), IssueError> {
    const TEXT: &str = "text/plain";
    let pem = |label| {
        der::pem::encode_string(label, der::pem::LineEnding::LF, der)
            .map(|text| ("application/x-pem-file", text.into()))
            .map_err(|error| IssueError::Der { what: "PEM", source: error.into() })
    };
    let hex = hex::encode(der);
    Ok(match form {
        CrlForm::Der => ("application/pkix-crl", der.to_vec().into()),
        CrlForm::Hex => (TEXT, hex.into()),
        CrlForm::HexUpper => (TEXT, hex.to_uppercase().into()),
        CrlForm::HexLf => (TEXT, (hex + "\n").into()),
        CrlForm::HexCrlf => (TEXT, (hex + "\r\n").into()),
        CrlForm::HexNul => (TEXT, (hex + "\0").into()),
        CrlForm::HexOdd => (TEXT, hex[..hex.len() - 1].to_owned().into()),
        CrlForm::Pem => return pem("X509 CRL"),
        CrlForm::PemOtherLabel => return pem("CERTIFICATE"),
    })
}

fn chain_headers(
    root: &DevelopmentRoot,
    name: &'static str,
    chain: &str,
    fault: Option<IssuerChain>,
) -> Vec<(&'static str, String)> {
    let old_name = if name == TCB_INFO_CHAIN { OLD_TCB_INFO_CHAIN } else { name };
    let good = percent_encode(chain);
    match fault {
        // Names in lower case are the connection's affair.
        None | Some(IssuerChain::LowerCase) => vec![(name, good)],
        Some(IssuerChain::Missing) => Vec::new(),
        Some(IssuerChain::Empty) => vec![(name, String::new())],
        Some(IssuerChain::TwiceEncoded) => vec![(name, percent_encode(&good))],
        Some(IssuerChain::NotEncoded) => vec![(name, chain.trim_end().replace('\n', " "))],
        Some(IssuerChain::Garbage) => vec![(name, "%zz%".to_owned())],
        Some(IssuerChain::OldName) => vec![(old_name, good)],
        Some(IssuerChain::BothNames) if old_name != name => vec![(name, good.clone()), (old_name, good)],
        Some(IssuerChain::BothNames) => vec![(name, good)],
        Some(IssuerChain::Other) if name == PCK_CRL_CHAIN => vec![(name, percent_encode(root.tcb_signing_chain()))],
        Some(IssuerChain::Other) => vec![(name, percent_encode(root.pck_chain()))],
    }
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3 / 2);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
