// How long work is run: threads, memory, progress, and how it is stopped.

import SmeltPipeline
import SmeltStorage

internal import Synchronization

/// How far a piece of work has come.
public struct Progress: Sendable, Hashable {
  /// What is being done: `convert`, `calibrate`, `compare layers`.
  public var stage: String
  /// How much of it is done.
  public var done: Int
  /// How much there is.
  public var total: Int
  /// What is counted: `bytes`, `layers`, `weights`, `tokens`.
  public var unit: String
}

/// How long work is run. Results never depend on it.
///
/// Work that runs inside a task stops when the task is cancelled: it throws ``SmeltError`` of kind `interrupted`, and
/// leaves nothing under the final name.
public struct Run: Sendable {
  /// The threads to use; nil: one a core.
  public var threads: Int?
  /// Bytes that activations and weights which are not mapped may take.
  public var maxMemory: Int
  /// Receives progress, from one thread at a time; nil: nobody does.
  public var progress: (@Sendable (Progress) -> Void)?
  /// Receives lines worth telling a person: what is about to be done, warnings; nil: nobody does.
  public var message: (@Sendable (String) -> Void)?

  /// A run; one thread a core and 2 GiB by default.
  public init(
    threads: Int? = nil, maxMemory: Int = 2 << 30, progress: (@Sendable (Progress) -> Void)? = nil,
    message: (@Sendable (String) -> Void)? = nil
  ) {
    self.threads = threads
    self.maxMemory = maxMemory
    self.progress = progress
    self.message = message
  }

  var options: RunOptions {
    RemoteModels.limitMemory(maxMemory)
    return RunOptions(
      parallel: threads.map { Parallel(threads: max(1, min($0, 1024))) } ?? .allCores, maxMemory: maxMemory,
      progress: progress == nil && message == nil ? SilentProgress() : Reporter(self))
  }
}

/// Hands progress on.
private final class Reporter: ProgressReporter {
  private let run: Run
  private let state = Mutex(Progress(stage: "", done: 0, total: 0, unit: ""))

  init(_ run: Run) { self.run = run }

  func begin(_ title: String, total: Int, unit: String) {
    report { $0 = Progress(stage: title, done: 0, total: total, unit: unit) }
  }

  func advance(_ amount: Int) {
    report { $0.done += amount }
  }

  private func report(_ change: (inout Progress) -> Void) {
    let now = state.withLock { state in
      change(&state)
      return state
    }
    run.progress?(now)
  }

  func end() { report { $0.done = $0.total } }

  func announce(_ text: String) { run.message?(text) }
}
