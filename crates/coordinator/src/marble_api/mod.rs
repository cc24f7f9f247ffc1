//! The Marble API: one gRPC method, `/rpc.Marble/Activate`.

mod activate;
mod codec;
mod status;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use marblerun_api::rpc::{ActivationReq, ActivationResp};
use marblerun_api::{ACTIVATE_PATH, MAX_MESSAGE_BYTES};
use tonic::server::{Grpc, UnaryService};
use tower::Service;

pub use activate::Activator;

use self::activate::{Accounts, Peer};
use self::codec::ActivationCodec;
use crate::answer_budget::AnswerAccount;
use crate::body_budget::BodyAccount;
use crate::listener::{PeerAddress, PeerCertificate, ShownCertificate};
use crate::metrics::Call;

/// Parameters may be larger than what the premain of MarbleRun v1.9.1 takes (4 MiB); ours takes this much.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Everything that the Marble listener answers.
pub fn router(activator: Arc<Activator>) -> Router {
    Router::new().fallback_service(MarbleService(activator))
}

#[derive(Clone)]
struct MarbleService(Arc<Activator>);

impl Service<http::Request<Body>> for MarbleService {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let address = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
        if request.uri().path() != ACTIVATE_PATH {
            let path = request.uri().path().to_owned();
            let status = tonic::Status::unimplemented(format!("expected {ACTIVATE_PATH}, got {path}"));
            self.0.note_request("unknown-endpoint", &status, address);
            return Box::pin(std::future::ready(Ok(status.into_http())));
        }
        let activator = Arc::clone(&self.0);
        let was_read = Arc::new(AtomicBool::new(false));
        let method = Activate { activator: Arc::clone(&activator), was_read: Arc::clone(&was_read) };
        let call = self.0.metrics.clone().map(Call::start);
        Box::pin(async move {
            let mut grpc = Grpc::new(ActivationCodec)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_RESPONSE_BYTES);
            let account = request.extensions().get::<BodyAccount>().cloned();
            let mut answer = grpc.unary(method, request).await;
            if account.is_some_and(|account| account.is_exceeded()) {
                let status = tonic::Status::resource_exhausted("too many requests at once");
                activator.note_request("busy", &status, address);
                answer = status.into_http();
            } else if !was_read.load(Ordering::Relaxed)
                && let Some(status) = tonic::Status::from_header_map(answer.headers())
            {
                activator.note_request("unreadable", &status, address);
            }
            if let Some(call) = call {
                call.answer(answer.headers());
            }
            Ok(answer)
        })
    }
}

struct Activate {
    activator: Arc<Activator>,
    /// Whether the request's message was read.
    was_read: Arc<AtomicBool>,
}

impl UnaryService<ActivationReq> for Activate {
    type Response = ActivationResp;
    type Future = Boxed<Result<tonic::Response<ActivationResp>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<ActivationReq>) -> Self::Future {
        let activator = Arc::clone(&self.activator);
        self.was_read.store(true, Ordering::Relaxed);
        if let Some(metrics) = &activator.metrics {
            Call::receive(metrics);
        }
        Box::pin(async move {
            let PeerCertificate(leaf) = request.extensions().get::<PeerCertificate>().cloned().unwrap_or_default();
            let shown = request.extensions().get::<ShownCertificate>().map(|shown| Arc::clone(&shown.0));
            let accounts = Accounts {
                body: request.extensions().get::<BodyAccount>().cloned(),
                answer: request.extensions().get::<AnswerAccount>().cloned(),
            };
            // A request without it comes from no connection of ours, and no certificate is empty.
            let address = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
            let peer = Peer { leaf, shown: shown.unwrap_or_default(), address };
            let parameters = activator.activate(peer, request.into_inner(), accounts).await?;
            Ok(tonic::Response::new(ActivationResp { parameters: Some(parameters) }))
        })
    }
}
