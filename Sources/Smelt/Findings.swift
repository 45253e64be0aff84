// What was found or done, as plain values; everything else is in `json`, whose members `Formats/report.md` lists.

import SmeltPipeline
import SmeltStorage

/// What a model is, from its headers.
public struct Inspection: Sendable {
  /// One tensor as its file lists it.
  public struct Tensor: Sendable, Hashable {
    /// Its name in the file.
    public var name: String
    /// Its element type, or its encoding in an ingot.
    public var type: String
    /// Its dimensions.
    public var shape: [Int]
    /// Bytes in the file.
    public var bytes: Int
    /// The file.
    public var file: String
  }

  /// Numbers that the forward pass uses.
  public var parameters: Int
  /// Numbers that one token meets.
  public var activeParameters: Int
  /// Bytes of all files.
  public var bytes: Int
  /// All tensors.
  public var tensors: [Tensor]
  /// Weights and their bytes, by encoding.
  public var encodings: [(name: String, weights: Int, bytes: Int)]
  /// The whole as JSON, `smelt.inspect/1`.
  public var json: String
  /// The whole for people.
  public var text: String

  init(_ found: SmeltPipeline.Inspection) {
    parameters = found.parameters
    activeParameters = found.activeParameters
    bytes = found.bytes
    tensors = found.tensors.map {
      Tensor(name: $0.name, type: $0.dtype, shape: $0.shape, bytes: $0.bytes, file: $0.file)
    }
    encodings = found.encodings
    json = found.json(withTensors: true).text(indented: true)
    text = found.text(withTensors: false)
  }
}

/// What a conversion would do.
public struct Plan: Sendable {
  /// What becomes of one tensor of the source.
  public struct Entry: Sendable, Hashable {
    /// The tensor's name in the source.
    public var source: String
    /// `converted`, `copied`, `joined` (a scale that belongs to another tensor), `carried` or `dropped`.
    public var fate: String
    /// The scheme; nil where it is dropped.
    public var scheme: String?
    /// Why.
    public var rule: String
    /// Bytes in the source.
    public var bytesIn: Int
    /// Bytes in the result, before compression.
    public var bytesOut: Int
  }

  /// Every tensor of the source.
  public var entries: [Entry]
  /// Bytes of the source's tensors.
  public var bytesIn: Int
  /// The most bytes of the result's tensors.
  public var bytesOut: Int
  /// What the conversion holds in memory, about.
  public var peakMemoryBytes: Int
  /// The whole as JSON, `smelt.plan/1`.
  public var json: String
  /// The whole for people.
  public var text: String

  init(_ plan: SmeltPipeline.Plan) {
    entries = plan.ledger.map {
      Entry(
        source: $0.source, fate: $0.fate.rawValue, scheme: $0.scheme, rule: $0.rule, bytesIn: $0.bytesIn,
        bytesOut: $0.bytesOut)
    }
    bytesIn = plan.bytesIn
    bytesOut = plan.bytesOut
    peakMemoryBytes = plan.peakMemoryBytes
    json = plan.json.text(indented: true)
    text = plan.text
  }
}

/// What a conversion wrote.
public struct Converted: Sendable {
  /// The result's path.
  public var path: String
  /// `ingot`, `gguf` or `safetensors`.
  public var container: String
  /// Bytes of all its files.
  public var bytes: Int
  /// The hash of an ingot's content; nil for other results.
  public var contentHash: String?
  /// Weights that got another encoding, and how many of them hold exactly the source's numbers.
  public var converted: (weights: Int, exact: Int)
  /// What calibration found, where a text was given.
  public var calibration: Calibration?
  /// Things worth knowing.
  public var warnings: [String]
  /// The whole as JSON, `smelt.convert/1`.
  public var json: String
  /// One line for people.
  public var text: String

  init(_ made: ConvertSummary, _ calibration: Calibration?) {
    path = made.path
    container = made.container
    bytes = made.byteCount
    contentHash = made.contentHash
    converted = (made.converted.count, made.exact)
    self.calibration = calibration
    warnings = made.warnings
    json = made.json.text(indented: true)
    text = made.text
  }
}

/// What a calibration found.
public struct Calibration: Sendable {
  /// Tokens that ran.
  public var tokens: Int
  /// Experts that the text reached with too few tokens; `json` says what each got instead.
  public var starvedExperts: Int
  /// The whole as JSON, `smelt.calibrate/1`.
  public var json: String
  /// The whole for people.
  public var text: String

  init(_ found: CalibrationSummary) {
    tokens = found.tokens
    starvedExperts = found.starvedExperts
    json = found.json.text(indented: true)
    text = found.text
  }
}

/// How far a result is from its source.
public struct Verification: Sendable {
  /// The verdict against the criteria.
  public enum Verdict: String, Sendable, CaseIterable {
    /// Every criterion is met.
    case pass
    /// One is not, or a weight, a setting or a tokenizer is wrong.
    case fail
    /// Nothing was demanded, and nothing is wrong.
    case notJudged = "not judged"
  }

  /// The verdict.
  public var verdict: Verdict
  /// Mean KL divergence, source to result, in nats a token; nil where no forward pass was run.
  public var meanKL: Double?
  /// Share of tokens with the same most likely next token; nil where no forward pass was run.
  public var top1: Double?
  /// Perplexities of source and result; nil where no forward pass was run.
  public var perplexity: (source: Double, result: Double)?
  /// Weights whose every number is the source's, of all that were compared.
  public var exactWeights: (count: Int, of: Int)
  /// What no scheme explains.
  public var faults: [String]
  /// The whole as JSON, `smelt.verify/1`.
  public var json: String
  /// The whole as a page.
  public var html: String
  /// The whole for people.
  public var text: String

  init(_ report: Report) {
    verdict = Verdict(rawValue: report.verdict.rawValue) ?? .fail
    if report.notRun == nil {
      meanKL = report.kl.mean
      top1 = report.top1
      perplexity = report.perplexity
    }
    exactWeights = (report.exactWeights, report.weights.count)
    faults = report.faults.map(\.text)
    json = report.json.text(indented: true)
    html = report.html
    text = report.text
  }
}
