// What is asked for: a conversion, a text, criteria.

import SmeltHub
import SmeltPipeline
import SmeltQuantization
import SmeltStorage

/// How a model is opened that is not on this machine. What huggingface_hub reads from the environment holds here too: `HF_ENDPOINT`,
/// `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.
public struct Remote: Sendable {
  /// Take `org/name` for a repository of the hub, `hf://org/name`, where there is no such path.
  public var isHub: Bool
  /// The folder of a hub cache in which what is fetched is kept: it is not fetched again, and other tools find it; nil: nowhere.
  public var keep: String?
  /// Fetch from `http://` addresses of other machines, which others can read and change.
  public var allowsHTTP: Bool

  /// How to open it.
  public init(isHub: Bool = false, keep: String? = nil, allowsHTTP: Bool = false) {
    self.isHub = isHub
    self.keep = keep
    self.allowsHTTP = allowsHTTP
  }

  var options: RemoteOptions {
    var options = RemoteOptions()
    (options.isHub, options.keep, options.allowsHTTP) = (isHub, keep, allowsHTTP)
    return options
  }
}

/// A conversion: which scheme for which weight, and what to write. By default every value stays as it is.
public struct Conversion: Sendable {
  /// The scheme for the big matrices inside layers, by any name that `smelt formats` lists: `int8-channel`, `W8A8`, `q4_k_m`;
  /// nil with a recipe, or to keep everything.
  public var scheme: String?
  /// The path of a recipe (`Formats/recipe.md`); nil with a scheme.
  public var recipe: String?
  /// Statistics of a calibration, or an importance matrix of llama.cpp.
  public var statistics: String?
  /// How codes are chosen when a text is given: `rtn` (rounding to nearest), `smooth`, `awq` or `gptq`; nil for `gptq` where weights become
  /// four bits on a grid (`int4-group`, `nvfp4`, `mxfp4`, `q4_0`), else `rtn`.
  public var method: String?
  /// How an ingot stores weights: `fast`, `small` or `raw`; nil: `fast`. Refused for other containers.
  public var compression: String?
  /// The container, where the path does not say it: `ingot`, `gguf` or `safetensors`.
  public var container: String?
  /// What becomes of blocks that draft tokens (multi-token prediction): `quantize` as the recipe says, `keep` or `drop`.
  public var mtp: String
  /// Refuse every step that may change a value.
  public var exactOnly: Bool
  /// Refuse schemes that engines cannot load together, where else the one of most bits is taken for all.
  public var strict = false
  /// How a directory keeps quantized weights: `auto`, `compressed-tensors` or `modelopt`; nil for `auto`.
  public var layout: String?
  /// What engines do to the activations of FP8 and NVFP4 weights in a directory: `static` (scales from calibration), `dynamic` or
  /// `none`; nil where the scheme's name decides.
  public var activations: String?
  /// Scales for cached keys and values in a directory: `fp8` (from calibration) or `none`; nil for `none`.
  public var kvCache: String?
  /// Replace a result that Smelt wrote, and nothing else.
  public var overwrite: Bool
  /// Resume an interrupted run.
  public var resume: Bool

  /// A conversion.
  public init(
    scheme: String? = nil, recipe: String? = nil, statistics: String? = nil, method: String? = nil,
    compression: String? = nil, container: String? = nil, mtp: String = "quantize", exactOnly: Bool = false,
    overwrite: Bool = false, resume: Bool = false
  ) {
    self.scheme = scheme
    self.recipe = recipe
    self.statistics = statistics
    self.method = method
    self.compression = compression
    self.container = container
    self.mtp = mtp
    self.exactOnly = exactOnly
    self.overwrite = overwrite
    self.resume = resume
  }

  func options(_ model: SmeltPipeline.Model, _ path: String, _ run: Run, calibrates: Bool = false) throws
    -> ConvertOptions
  {
    var options = try ConversionRequest(
      scheme: scheme, recipePath: recipe, statisticsPath: statistics, observer: nil, drafts: mtp,
      exactOnly: exactOnly, compression: compression, kind: container, overwrite: overwrite,
      engines: EngineWords(layout: layout, activations: activations, cache: kvCache)
    ).options(for: model, result: path, calibrates: calibrates, run.options)
    (options.resume, options.isStrict) = (resume, strict)
    return options
  }

  func methodOptions() throws -> MethodOptions { try MethodOptions(named: method) }
}

/// Texts, and how they are cut into windows that run alone.
public struct Text: Sendable {
  /// UTF-8 files, `.jsonl` files of records, or patterns of such.
  public var files: [String]
  /// Tokens a window.
  public var context: Int
  /// The most tokens; nil: all.
  public var tokenLimit: Int?
  /// How many windows are drawn from all of the text, rather than its first ones; nil: the first ones.
  public var samples: Int?
  /// Which windows are drawn: the same seed, the same windows.
  public var seed: UInt64

  /// Texts.
  public init(
    _ files: String..., context: Int = 256, tokenLimit: Int? = nil, samples: Int? = nil, seed: UInt64 = 0
  ) {
    self.files = files
    self.context = context
    self.tokenLimit = tokenLimit
    self.samples = samples
    self.seed = seed
  }

  /// - Parameter isApart: whether several files are cut each by itself, so that each is reported; else they are laid end to end.
  func windows(_ model: SmeltPipeline.Model, isApart: Bool = false) throws -> Windows {
    try model.requireForwardPass()
    guard context >= 2, tokenLimit ?? context >= context, samples ?? 1 >= 1 else {
      throw RequestError(
        .usage,
        "a window has at least 2 tokens, and tokenLimit at least one window; context is \(context), tokenLimit \(tokenLimit.map(String.init) ?? "nil"), samples \(samples.map(String.init) ?? "nil")"
      )
    }
    let draw = WindowDraw(samples: samples, seed: seed, limit: tokenLimit)
    return isApart
      ? try Windows(each: files, context: context, draw, model: model)
      : try Windows(try TextSource(files), context: context, draw, model: model)
  }
}

/// What is demanded of a result. Nothing demanded, nothing judged.
public struct Criteria: Sendable {
  /// `near-lossless`, `good` or `usable`: bounds by a name, which those below override.
  public var profile: String?
  /// The largest mean KL divergence, in nats a token.
  public var maxKL: Double?
  /// The smallest share of tokens with the same most likely next token, 0 to 1.
  public var minTop1: Double?
  /// The largest relative error of a weight.
  public var maxWeightError: Double?

  /// Criteria.
  public init(
    profile: String? = nil, maxKL: Double? = nil, minTop1: Double? = nil, maxWeightError: Double? = nil
  ) {
    self.profile = profile
    self.maxKL = maxKL
    self.minTop1 = minTop1
    self.maxWeightError = maxWeightError
  }

  func thresholds() throws -> Thresholds {
    Thresholds(
      profile: try profile.map { try Thresholds.Profile.named($0) }, maxKL: maxKL, minTop1: minTop1,
      maxWeightError: maxWeightError)
  }
}
