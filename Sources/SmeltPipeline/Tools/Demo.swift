// `demo`: the whole path on the bundled trained model, as a new user would walk it.

import SmeltModels
import SmeltQuantization
import SmeltStorage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Where the demo finds its model.
package enum Demo {
  /// In the repository, and where a release is installed.
  private static let places = ["Fixtures/models/tiny-v4", "share/smelt/demo"]

  /// The bundled model: below the current folder, or below a folder that the program itself lies in.
  /// - Throws: `RequestError` usage when it is in neither.
  package static func bundledModel(executable: String) throws -> String {
    // A program that was found in PATH was called by its name alone.
    var folder = (executablePath() ?? resolvedPath(executable)).map(parentFolder) ?? "."
    var candidates = ["."]
    while folder != "/" && folder != "." {
      candidates.append(folder)
      folder = parentFolder(folder)
    }
    for path in candidates.flatMap({ folder in places.map { joinPath(folder, $0) } }) {
      if pathKind(joinPath(path, "config.json")) == .file { return path }
    }
    throw RequestError(
      .usage, "the bundled model is not here",
      help: "run the demo in the repository's folder, or pass --model")
  }
}

/// Quantizes to INT8 with calibration, verifies, and says what it does.
package func demo(modelPath: String, _ options: RunOptions, say: (String) throws -> Void) throws {
  let start = monotonicSeconds()
  let model = try Model.open(modelPath)
  let facts = try inspect(model)
  try say(
    "source   \(modelPath): \(facts.family), \(grouped(facts.parameters)) parameters, \(facts.dimensions.experts) experts in each of \(facts.dimensions.layers) layers, \(byteText(facts.bytes))"
  )
  let folder = try makeTemporaryFolder("smelt-demo")
  defer { rmdir(folder) }
  let result = joinPath(folder, "demo-int8.ingot")
  defer { removeFile(result) }

  let calibrationText = joinPath(modelPath, "calibration.txt")
  let request = ConversionRequest(
    scheme: "int8-channel", recipePath: nil, statisticsPath: nil, observer: nil, exactOnly: false,
    compression: nil, kind: nil, overwrite: false)
  let (learned, summary) = try quantize(
    model, to: result, calibration: try Windows(textPath: calibrationText, context: 256, model: model),
    textPath: calibrationText, choosesObserver: true, try request.options(for: model, result: result, options)
  )
  try say(
    "calibrated with \(grouped(learned.tokens)) tokens of calibration.txt; experts reached:\n\(learned.coverage.text)"
  )
  try say(
    "quantized int8-channel: \(byteText(facts.bytes)) to \(byteText(summary.byteCount)), content hash \((summary.contentHash ?? "").prefix(16))…"
  )

  let quantized = try Model.open(result)
  let text = joinPath(modelPath, "evaluation.txt")
  let report = try verify(
    source: model, result: quantized, try Windows(textPath: text, context: 256, model: model),
    thresholds: Thresholds(profile: .nearLossless), options)
  try say("verified on evaluation.txt:\n\n\(report.text)")
  try say("\ndemo took \(fixed(monotonicSeconds() - start, 1)) s")
  if !report.passes {
    throw RequestError(
      .io, "the demo's profile was not met: this build computes wrongly, please report it")
  }
}

/// Makes a folder for files that nobody keeps.
/// - Parameter folder: where; nil: in `TMPDIR` or /tmp.
/// - Throws: `RequestError` cannot-create.
func makeTemporaryFolder(_ name: String, in folder: String? = nil) throws -> String {
  let base = folder ?? getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
  var template = Array(joinPath(base, "\(name)-XXXXXX").utf8CString)
  // SAFETY: the template is not empty and ends with a zero byte, as `mkdtemp` asks
  guard let made = template.withUnsafeMutableBufferPointer({ mkdtemp($0.baseAddress!) }) else {
    throw RequestError(.cannotCreate, "cannot make a folder in '\(base)'")
  }
  return String(cString: made)
}
