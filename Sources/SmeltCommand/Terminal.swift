// What a person sees while waiting. Bars only where stderr is a terminal and NO_COLOR is not set.

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

/// Writing to stderr.
enum Terminal {
  /// One line on stderr.
  static func error(_ text: String) { write(text + "\n") }

  /// One line on stderr about something that refuses nothing.
  static func warn(_ text: String) { error("warning: \(printable(text))") }

  static func write(_ text: String) {
    _ = Array(text.utf8).withUnsafeBytes { writeAll(2, $0) }  // there is nowhere left to complain
  }

  /// A bar where it can be drawn, warnings alone elsewhere.
  static func progress() -> any ProgressReporter {
    guard isatty(2) == 1, getenv("NO_COLOR") == nil else { return WarningsAlone() }
    MappedFaults.clearsLine()
    return ProgressBar()
  }
}

/// Writing to stdout. Not `print`, which keeps a full disk to itself.
enum Output {
  /// A text and a line break.
  /// - Throws: `RequestError` io when stdout takes no more. A reader that has read enough (`| head`) is no error.
  static func line(_ text: String) throws { try bytes(Array((text + "\n").utf8)) }

  /// A piece of text as it is.
  static func text(_ text: String) throws { try bytes(Array(text.utf8)) }

  /// Bytes as they are.
  static func bytes(_ bytes: [UInt8]) throws {
    let error = bytes.withUnsafeBytes { writeAll(1, $0) }
    if error != 0 && error != EPIPE {
      throw RequestError(.io, "cannot write to stdout: \(String(cString: strerror(error)))")
    }
  }

  /// Takes the places of standard streams that the caller closed, so that no file that Smelt opens gets their numbers and is
  /// written into. Writing to such a place stays an error.
  static func reserveDescriptors() {
    for descriptor in Int32(0)...2 where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY)
    }
  }
}

/// No progress, but what a person should know.
struct WarningsAlone: ProgressReporter {
  func begin(_ title: String, total: Int, unit: String) {}
  func advance(_ amount: Int) {}
  func end() {}
  func warn(_ text: String) { Terminal.warn(text) }
}

/// A bar with amount, rate and time left, redrawn at most ten times a second. Stages may nest: the inner one is shown.
final class ProgressBar: ProgressReporter {
  private struct Stage {
    var title: String
    var total: Int
    var unit: String
    var done = 0
    var start = monotonicSeconds()
    var drawn = 0.0
  }

  private let stages = Mutex<[Stage]>([])

  func announce(_ text: String) { Terminal.error(printable(text)) }
  func warn(_ text: String) { Terminal.warn(text) }

  func begin(_ title: String, total: Int, unit: String) {
    stages.withLock { $0.append(Stage(title: title, total: total, unit: unit)) }
  }

  func advance(_ amount: Int) {
    stages.withLock { stages in
      guard var stage = stages.popLast() else { return }
      stage.done += amount
      let now = monotonicSeconds()
      if now - stage.drawn > 0.1 {
        stage.drawn = now
        Terminal.write("\r\u{1B}[K" + line(stage, now))
      }
      stages.append(stage)
    }
  }

  func end() {
    stages.withLock { stages in
      _ = stages.popLast()
      Terminal.write("\r\u{1B}[K")
    }
  }

  private func line(_ stage: Stage, _ now: Double) -> String {
    let share = min(1, Double(stage.done) / Double(max(1, stage.total)))
    let width = 24
    let filled = Int(share * Double(width))
    let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
    let elapsed = max(now - stage.start, 1e-6)
    let rate = Double(stage.done) / elapsed
    let left = share > 0 ? elapsed / share - elapsed : 0
    let isBytes = stage.unit == "bytes"
    let amount =
      isBytes
      ? "\(byteText(stage.done)) of \(byteText(stage.total))"
      : "\(stage.done) of \(stage.total) \(stage.unit)"
    let speed = isBytes ? "\(byteText(Int(rate)))/s" : "\(fixed(rate, 1)) \(stage.unit)/s"
    return "\(stage.title) \(bar) \(amount), \(speed), \(duration(left)) left"
  }

  private func duration(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded(.up))
    return whole < 60
      ? "\(whole) s"
      : whole < 3600 ? "\(whole / 60) min \(whole % 60) s" : "\(whole / 3600) h \(whole % 3600 / 60) min"
  }
}
