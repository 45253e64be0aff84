// How long work is shown: a bar on a terminal, lines in a log, nothing where that is asked for.

import SmeltPipeline
import SmeltStorage
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Which reporter a command has.
enum Reporters {
  /// - Parameters:
  ///   - isQuiet: nothing but errors.
  ///   - isVerbose: also what each stage took.
  static func chosen(isQuiet: Bool, isVerbose: Bool) -> any ProgressReporter {
    guard !isQuiet else { return SilentWarnings() }
    let shown: any ProgressReporter
    if Terminal.isCapable(2) {
      MappedFaults.clearsLine()
      shown = ProgressBar()
    } else {
      shown = ProgressLines(
        every: secondsBetweenLines, warn: { Terminal.warn($0) }, write: { Terminal.note(printable($0)) })
    }
    return isVerbose ? StageTimes(shown) : shown
  }
}

extension Reporters {
  /// What `SMELT_PROGRESS_SECONDS` says, 10 without it.
  private static var secondsBetweenLines: Double {
    let asked = getenv("SMELT_PROGRESS_SECONDS").flatMap { Double(String(cString: $0)) } ?? 10
    return asked > 0 ? asked : .infinity
  }
}

/// Neither progress nor warnings: what refuses nothing is said by the report alone.
private struct SilentWarnings: ProgressReporter {
  func begin(_ title: String, total: Int, unit: String) {}
  func advance(_ amount: Int) {}
  func end() {}
  func warn(_ text: String) {}
}

/// A bar with amount, rate and time left, redrawn at most ten times a second. Stages may nest: the inner one is shown.
private final class ProgressBar: ProgressReporter {
  private let stages = Mutex<(open: [ProgressStage], drawn: Double)>(([], 0))

  func announce(_ text: String) { Terminal.note(printable(text)) }
  func warn(_ text: String) { Terminal.warn(text) }

  func begin(_ title: String, total: Int, unit: String) {
    stages.withLock {
      $0.open.append(ProgressStage(title, total: total, unit: unit, at: monotonicSeconds()))
    }
  }

  func advance(_ amount: Int) {
    stages.withLock { stages in
      guard let place = stages.open.indices.last else { return }
      stages.open[place].done += amount
      let now = monotonicSeconds()
      guard now - stages.drawn > 0.1 else { return }
      stages.drawn = now
      Terminal.drawBar(stages.open[place].bar(at: now, width: Terminal.width(of: 2) ?? 80))
    }
  }

  func end() {
    stages.withLock { stages in
      _ = stages.open.popLast()
      Terminal.clearBar()
    }
  }
}

/// Another reporter, and a line for each stage that is over.
private final class StageTimes: ProgressReporter {
  private let shown: any ProgressReporter
  private let stages = Mutex<[ProgressStage]>([])

  init(_ shown: any ProgressReporter) { self.shown = shown }

  func announce(_ text: String) { Terminal.note(printable(text)) }
  func warn(_ text: String) { shown.warn(text) }

  func begin(_ title: String, total: Int, unit: String) {
    stages.withLock { $0.append(ProgressStage(title, total: total, unit: unit, at: monotonicSeconds())) }
    shown.begin(title, total: total, unit: unit)
  }

  func advance(_ amount: Int) {
    stages.withLock { stages in
      if let place = stages.indices.last { stages[place].done += amount }
    }
    shown.advance(amount)
  }

  func end() {
    shown.end()
    guard let stage = stages.withLock({ $0.popLast() }) else { return }
    Terminal.note(printable(stage.summary(at: monotonicSeconds())))
  }
}
