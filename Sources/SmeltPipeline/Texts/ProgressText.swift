// What is said of work while it goes on, in bars and in lines.

import SmeltStorage
import Synchronization

/// A stage of work and how far it is.
package struct ProgressStage: Sendable {
  /// What it does.
  package let title: String
  /// How much there is.
  package let total: Int
  /// Of what: `bytes`, `tokens`, `layers`, `weights`.
  package let unit: String
  /// How much is done.
  package var done = 0
  /// When it began, in seconds.
  package let start: Double

  /// A stage that begins.
  package init(_ title: String, total: Int, unit: String, at start: Double) {
    (self.title, self.total, self.unit, self.start) = (title, total, unit, start)
  }

  /// The share that is done, 0 to 1.
  package var share: Double { min(1, Double(done) / Double(max(1, total))) }

  /// The amount, the rate and the time left.
  package func facts(at now: Double) -> [String] {
    let elapsed = max(now - start, 1e-6)
    let rate = Double(done) / elapsed
    let isBytes = unit == "bytes"
    return [
      isBytes ? "\(byteText(done)) of \(byteText(total))" : "\(done) of \(total) \(unit)",
      isBytes ? "\(byteText(Int(rate)))/s" : "\(fixed(rate, 1)) \(unit)/s",
    ] + (share > 0 ? ["\(durationText(elapsed / share - elapsed)) left"] : [])
  }

  /// What a stage that is over took.
  package func summary(at now: Double) -> String {
    let amount = unit == "bytes" ? byteText(done) : "\(done) \(unit)"
    return "\(title): \(amount) in \(fixed(now - start, 1)) s"
  }

  /// A bar with as much of the facts as fits into a width.
  package func bar(at now: Double, width: Int) -> String {
    var facts = facts(at: now)
    let filled = Int(share * 24)
    let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 24 - filled)
    while true {
      let line = "\(title) \(bar) " + facts.joined(separator: ", ")
      if line.count < width { return line }
      guard facts.count > 1 else { return String("\(title) \(facts[0])".prefix(max(1, width - 1))) }
      facts.remove(at: 1)
    }
  }
}

/// Seconds as people say them: `12 s`, `3 min 5 s`, `2 h 10 min`.
package func durationText(_ seconds: Double) -> String {
  guard seconds.isFinite, seconds < 1e9 else { return "unknown time" }
  let whole = Int(seconds.rounded(.up))
  return whole < 60
    ? "\(whole) s"
    : whole < 3600 ? "\(whole / 60) min \(whole % 60) s" : "\(whole / 3600) h \(whole % 3600 / 60) min"
}

/// Progress in lines, for logs: nothing of work that is over soon, then every few seconds where it stands; what was announced comes
/// before the first of these lines.
package final class ProgressLines: ProgressReporter {
  private struct State {
    var stages: [ProgressStage] = []
    var announced: [String] = []
    var last: Double
  }

  private let state: Mutex<State>
  private let seconds: Double
  private let clock: @Sendable () -> Double
  private let write: @Sendable (String) -> Void
  private let warning: @Sendable (String) -> Void

  /// - Parameters:
  ///   - seconds: from one line to the next.
  ///   - clock: what time it is, in seconds.
  ///   - warn: takes a warning, without the word.
  ///   - write: takes a line.
  package init(
    every seconds: Double = 10, clock: @escaping @Sendable () -> Double = { monotonicSeconds() },
    warn: @escaping @Sendable (String) -> Void, write: @escaping @Sendable (String) -> Void
  ) {
    (self.seconds, self.clock, self.write, warning) = (seconds, clock, write, warn)
    state = Mutex(State(last: clock()))
  }

  /// Kept until there is a line of progress.
  package func announce(_ text: String) { state.withLock { $0.announced.append(text) } }
  /// Written at once.
  package func warn(_ text: String) { warning(text) }

  /// A stage begins; of stages within each other the inner one is shown.
  package func begin(_ title: String, total: Int, unit: String) {
    let now = clock()
    state.withLock { $0.stages.append(ProgressStage(title, total: total, unit: unit, at: now)) }
  }

  /// So much more is done.
  package func advance(_ amount: Int) {
    let now = clock()
    let lines = state.withLock { state -> [String] in
      guard let place = state.stages.indices.last else { return [] }
      state.stages[place].done += amount
      guard now - state.last >= seconds else { return [] }
      state.last = now
      let stage = state.stages[place]
      defer { state.announced = [] }
      return state.announced + ["\(stage.title): " + stage.facts(at: now).joined(separator: ", ")]
    }
    for line in lines { write(line) }
  }

  /// The stage is over.
  package func end() { state.withLock { _ = $0.stages.popLast() } }
}
