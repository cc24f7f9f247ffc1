use marblerun_secret::SecretBytes;
use zeroize::Zeroize;

use crate::error::Limit;

/// Longest source of one template in bytes. Longer content belongs into a file without templates.
pub const MAX_SOURCE_BYTES: usize = 16 << 20;
/// Most parts (texts, commands, operands) of one template.
pub const MAX_NODES: usize = 100_000;
/// Deepest nesting of blocks, `else if` chains and parentheses; bounds the native stack of parsing and dropping.
pub const MAX_PARSE_DEPTH: usize = 200;
/// Most variables that may be visible at once; looking one up is linear.
pub const MAX_VARIABLES: usize = 512;
/// Deepest nesting of template calls, blocks and pipelines during execution; bounds the native stack.
pub const MAX_EXEC_DEPTH: usize = 400;
/// Largest width or precision that `printf` accepts.
pub const MAX_WIDTH: usize = 1 << 16;
/// Longest integer in bytes that is converted to digits; the conversion is quadratic.
pub const MAX_INTEGER_BYTES: usize = 1024;

/// What executing templates may cost, over all templates that share a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Evaluated nodes, loop rounds and compared or scanned blocks of 64 bytes.
    pub steps: u64,
    /// Bytes of one intermediate value.
    pub value_bytes: usize,
    /// Bytes of all intermediate values that were ever made.
    pub total_value_bytes: u64,
    /// Bytes of output of all templates.
    pub output_bytes: usize,
}

impl Default for Limits {
    /// Generous for configuration files, small enough that a hostile template ends within about a second.
    fn default() -> Self {
        Self { steps: 1_000_000, value_bytes: 16 << 20, total_value_bytes: 64 << 20, output_bytes: 16 << 20 }
    }
}

/// What is left of the [`Limits`]; passed to several executions so that they share them.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    steps: u64,
    total_value_bytes: u64,
    output_bytes: usize,
}

impl Budget {
    /// A fresh budget.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            steps: limits.steps,
            total_value_bytes: limits.total_value_bytes,
            output_bytes: limits.output_bytes,
        }
    }

    /// Charges work.
    ///
    /// # Errors
    /// [`Limit::Steps`] when the budget is used up.
    pub fn charge_steps(&mut self, steps: u64) -> Result<(), Limit> {
        self.steps = self.steps.checked_sub(steps).ok_or(Limit::Steps { max: self.limits.steps })?;
        Ok(())
    }

    /// Charges looking at `bytes` bytes.
    ///
    /// # Errors
    /// [`Limit::Steps`] when the budget is used up.
    pub fn charge_scan(&mut self, bytes: usize) -> Result<(), Limit> {
        self.charge_steps(bytes as u64 / 64)
    }

    /// Charges an intermediate value of `bytes` bytes, before it is made.
    ///
    /// # Errors
    /// [`Limit::ValueSize`] or [`Limit::ValueTotal`].
    pub fn charge_value(&mut self, bytes: usize) -> Result<(), Limit> {
        if bytes > self.limits.value_bytes {
            return Err(Limit::ValueSize { max: self.limits.value_bytes });
        }
        self.total_value_bytes = self
            .total_value_bytes
            .checked_sub(bytes as u64)
            .ok_or(Limit::ValueTotal { max: self.limits.total_value_bytes })?;
        Ok(())
    }

    /// Charges output of `bytes` bytes, before it is written; also for output that no template made.
    ///
    /// # Errors
    /// [`Limit::Output`] when all output together becomes too long.
    pub fn charge_output(&mut self, bytes: usize) -> Result<(), Limit> {
        self.output_bytes =
            self.output_bytes.checked_sub(bytes).ok_or(Limit::Output { max: self.limits.output_bytes })?;
        Ok(())
    }
}

/// What a [`Buffer`] is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// An intermediate value.
    Value,
    /// The final output.
    Output,
}

/// Growing bytes that are wiped when they move or end, and paid for before they are written.
pub struct Buffer {
    bytes: Vec<u8>,
    charge: Charge,
}

impl Buffer {
    /// An empty buffer whose content is charged to `charge`.
    pub fn new(charge: Charge) -> Self {
        Self { bytes: Vec::new(), charge }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn pay(&mut self, more: usize, budget: &mut Budget) -> Result<(), Limit> {
        match self.charge {
            Charge::Output => budget.charge_output(more)?,
            Charge::Value => {
                if self.bytes.len().saturating_add(more) > budget.limits.value_bytes {
                    return Err(Limit::ValueSize { max: budget.limits.value_bytes });
                }
                budget.charge_value(more)?;
            }
        }
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            // A growing vector would leave the old allocation behind unwiped.
            let mut grown = Vec::with_capacity(needed.max(self.bytes.capacity() * 2).max(64));
            grown.extend_from_slice(&self.bytes);
            std::mem::swap(&mut self.bytes, &mut grown);
            grown.zeroize();
        }
        Ok(())
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// The limit that forbids it; nothing is appended then.
    pub fn write(&mut self, bytes: &[u8], budget: &mut Budget) -> Result<(), Limit> {
        self.pay(bytes.len(), budget)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends `count` times the byte `byte`.
    ///
    /// # Errors
    /// The limit that forbids it; nothing is appended then.
    pub fn fill(&mut self, byte: u8, count: usize, budget: &mut Budget) -> Result<(), Limit> {
        self.pay(count, budget)?;
        self.bytes.resize(self.bytes.len() + count, byte);
        Ok(())
    }

    /// The content, moved into a secret.
    pub fn into_secret(mut self) -> SecretBytes {
        SecretBytes::new(std::mem::take(&mut self.bytes))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}
