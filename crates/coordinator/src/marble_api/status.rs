//! Errors of an activation as gRPC status codes, in one place.

use marblerun_coordinator_core::activation::ActivationError;
use marblerun_coordinator_core::ledger::Refusal;
use tonic::{Code, Status};

use crate::answer_budget::OverBudget;
use crate::report;
use crate::trust::EvidenceError;
use crate::writer::WriteError;

/// What every refusal that concerns the Marble itself begins with.
const VERIFICATION_FAILED: &str = "marble verification failed: ";

/// Why an activation was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("no Marble TLS certificate")]
    NoCertificate,
    #[error("too many activations at once")]
    Busy,
    #[error(transparent)]
    Unread(#[from] OverBudget),
    #[error("the Coordinator's certificates were replaced since this connection was made; connect anew")]
    Outdated,
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the activation was interrupted")]
    Interrupted,
}

impl Refused {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::NoCertificate => Code::Unauthenticated,
            Self::Busy | Self::Unread(_) => Code::ResourceExhausted,
            Self::Outdated => Code::Unavailable,
            Self::Evidence(error) if error.is_unavailable() => Code::Unavailable,
            Self::Evidence(_) => Code::PermissionDenied,
            Self::Activation(error) => activation_code(error),
            Self::Write(WriteError::Refused(refusal)) => refusal_code(refusal),
            Self::Write(_) | Self::Interrupted => Code::Internal,
        }
    }

    /// Whether it is certain that the Marble's evidence was accepted before.
    pub(super) fn was_verified(&self) -> bool {
        use ActivationError::{Refused, State, UnknownType};
        match self {
            Self::Write(_) => true,
            Self::Activation(State | UnknownType(_) | Refused(_)) => false,
            Self::Activation(_) => true,
            Self::NoCertificate | Self::Busy | Self::Outdated | Self::Evidence(_) | Self::Interrupted => false,
            // It was, but the Marble will come again.
            Self::Unread(_) => false,
        }
    }

    /// A stable word for logs.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Busy | Self::Unread(_) => "busy",
            Self::Outdated => "outdated",
            Self::Evidence(error) => error.code(),
            Self::Activation(ActivationError::State) => "state",
            Self::Activation(ActivationError::UnknownType(_)) => "unknown-type",
            Self::Activation(ActivationError::Refused(_)) => "budget",
            Self::Activation(ActivationError::Uuid(_)) => "uuid",
            Self::Activation(ActivationError::Request(_)) => "request",
            Self::Activation(_) => "parameters",
            Self::Write(WriteError::Refused(_)) => "budget",
            Self::Write(_) => "storage",
            Self::Interrupted => "interrupted",
        }
    }

    /// What the Marble is told.
    pub(super) fn status(&self) -> Status {
        let hint = match self {
            Self::Evidence(error) => error.hint(),
            Self::Write(error) => error.hint(),
            _ => None,
        };
        let text = report::with_hint(self, hint);
        let code = self.code();
        match code {
            Code::PermissionDenied | Code::Unavailable if !matches!(self, Self::Outdated) => {
                Status::new(code, format!("{VERIFICATION_FAILED}{text}"))
            }
            _ => Status::new(code, text),
        }
    }
}

fn activation_code(error: &ActivationError) -> Code {
    match error {
        ActivationError::State => Code::FailedPrecondition,
        ActivationError::UnknownType(_) => Code::PermissionDenied,
        ActivationError::Refused(refusal) => refusal_code(refusal),
        ActivationError::Uuid(_) => Code::InvalidArgument,
        // A bad certificate request is no INVALID_ARGUMENT in MarbleRun v1.9.1 either.
        _ => Code::Internal,
    }
}

fn refusal_code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::BudgetUsed { .. } => Code::PermissionDenied,
        // The same call may succeed under the new manifest.
        Refusal::DeploymentChanged => Code::Unavailable,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[track_caller]
    fn check(refused: Refused, code: Code) {
        assert_eq!(refused.code(), code, "{refused}");
        assert_eq!(refused.status().code(), code);
    }

    fn no_collateral() -> EvidenceError {
        use marblerun_attestation::{Fmspc, PckCa, PlatformId, Tee};
        let platform = PlatformId { tee: Tee::Sgx, fmspc: Fmspc([0; 6]), ca: PckCa::Platform };
        marblerun_collateral::SupplyError::NotConfigured { platform }.into()
    }

    // rules: ACT-1.6, R23
    #[test]
    fn each_cause_has_the_code_that_marbles_know() {
        let budget = || Refusal::BudgetUsed { marble_type: "web".to_owned(), limit: 1 };
        check(Refused::NoCertificate, Code::Unauthenticated);
        check(Refused::Busy, Code::ResourceExhausted);
        check(Refused::Unread(OverBudget), Code::ResourceExhausted);
        check(ActivationError::State.into(), Code::FailedPrecondition);
        check(ActivationError::UnknownType("x".to_owned()).into(), Code::PermissionDenied);
        check(ActivationError::Refused(budget()).into(), Code::PermissionDenied);
        check(ActivationError::Uuid(marblerun_coordinator_core::uuid::UuidError::Nil).into(), Code::InvalidArgument);
        check(EvidenceError::Empty.into(), Code::PermissionDenied);
        check(no_collateral().into(), Code::Unavailable);
        check(EvidenceError::StaleCollateral.into(), Code::Unavailable);
        check(WriteError::Refused(Arc::new(budget())).into(), Code::PermissionDenied);
        check(WriteError::Refused(Arc::new(Refusal::DeploymentChanged)).into(), Code::Unavailable);
        check(Refused::Outdated, Code::Unavailable);
        check(WriteError::Ended.into(), Code::Internal);
    }

    #[test]
    fn only_what_comes_after_the_evidence_says_that_the_marble_was_verified() {
        use marblerun_coordinator_core::uuid::UuidError;
        let budget = || Refusal::BudgetUsed { marble_type: "web".to_owned(), limit: 1 };
        for before in [
            Refused::NoCertificate,
            Refused::Busy,
            Refused::Outdated,
            Refused::Interrupted,
            EvidenceError::Empty.into(),
            no_collateral().into(),
            ActivationError::State.into(),
            ActivationError::UnknownType("x".to_owned()).into(),
            ActivationError::Refused(budget()).into(),
        ] {
            assert!(!before.was_verified(), "{before:?}");
        }
        for after in [
            ActivationError::Uuid(UuidError::Nil).into(),
            WriteError::Refused(Arc::new(budget())).into(),
            Refused::from(WriteError::Ended),
        ] {
            assert!(after.was_verified(), "{after:?}");
        }
    }

    #[test]
    fn a_refusal_of_the_marble_itself_says_so_first() {
        let status = Refused::from(EvidenceError::Empty).status();
        assert!(status.message().starts_with("marble verification failed: expected a quote"), "{status}");
        assert!(!Refused::from(ActivationError::State).status().message().starts_with(VERIFICATION_FAILED));
    }
}
