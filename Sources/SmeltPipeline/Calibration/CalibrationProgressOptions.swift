// Whether a calibration goes on where another one was interrupted.

/// How much of a calibration may be lost.
package struct CalibrationProgressOptions: Sendable {
  /// Whether to go on with what another run left.
  package var resume: Bool
  /// Seconds of work between two checkpoints, at least. They decide what can be lost, never what the result is.
  package var seconds: Double

  /// Options; a minute between two checkpoints by default.
  package init(resume: Bool = false, seconds: Double = 60) {
    self.resume = resume
    self.seconds = seconds
  }
}
