// An opened model, and what can be done with it.

import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage

/// A model: a directory of safetensors, a GGUF file or an ingot. Opening reads headers alone; weights are read when their turn
/// comes, so that a model may be far larger than memory.
///
/// ```swift
/// let model = try Model(opening: "DeepSeek-V4-Flash")
/// try model.convert(to: "out.ingot", Conversion(scheme: "int8-channel"))
/// ```
public struct Model: Sendable {
  let base: SmeltPipeline.Model

  /// Opens a model.
  /// - Parameters:
  ///   - path: a folder with config.json and safetensors, a `.gguf` (of a split one the first file), an `.ingot`, or an address:
  ///     `hf://org/name`, `hf://org/name@revision`, `https://host/folder/`. What is fetched is read when its turn comes.
  ///   - allowDrop: patterns (`*`, `?`) of tensors that may be left out where no rule explains them.
  ///   - remote: what is said of models on other machines.
  /// - Throws: ``SmeltError`` of kind `file` where a header breaks its rule, or a server does not give what it should; `unsupported`
  ///   for a configuration that is not computed here.
  public init(opening path: String, allowDrop: [String] = [], _ remote: Remote = Remote()) throws {
    base = try reportingErrors {
      try SmeltPipeline.Model.open(path, allowDrop: allowDrop, remote: remote.options)
    }
  }

  /// The path it was opened by.
  public var path: String { base.path }
  /// `safetensors`, `gguf` or `ingot`.
  public var container: String { base.containerName }
  /// The `model_type` of its configuration.
  public var architecture: String { base.family.modelType }
  /// Transformer blocks.
  public var layers: Int { base.family.dimensions.layers }
  /// Routed experts a layer; 0 without any.
  public var experts: Int { base.family.dimensions.experts }
  /// Why the architecture cannot be run here; nil where it can. Converting works all the same.
  public var noForwardPass: String? { base.noForwardPass }
  /// Things worth knowing that are no reason to refuse it.
  public var warnings: [String] { base.warnings }

  /// What the model is, from its headers.
  /// - Throws: ``SmeltError``.
  public func inspect() throws -> Inspection {
    try reportingErrors { Inspection(try SmeltPipeline.inspect(base)) }
  }

  /// Reads every code, scale and checksum.
  /// - Throws: ``SmeltError`` of kind `file` for the first thing that is wrong.
  public func check(_ run: Run = Run()) throws {
    try reportingErrors {
      let summary = try checkModel(base, run.options)
      if let refusal = summary.refusal { throw refusal }
    }
  }

  /// What a conversion would do, from headers alone.
  /// - Throws: ``SmeltError`` where the recipe and the model do not fit.
  public func plan(to path: String, _ conversion: Conversion = Conversion(), _ run: Run = Run()) throws
    -> Plan
  {
    try reportingErrors {
      Plan(try SmeltPipeline.Plan(base, try conversion.options(base, path, run)))
    }
  }

  /// Writes the model to a path: `NAME.ingot`, `NAME.gguf`, or a folder of safetensors. The bytes depend on the model and the
  /// conversion alone.
  /// - Throws: ``SmeltError`` of kind `cannotCreate` where the path exists, `unsupported` where its container cannot hold what is
  ///   asked for, `interrupted`, `io`.
  @discardableResult
  public func convert(to path: String, _ conversion: Conversion = Conversion(), _ run: Run = Run()) throws
    -> Converted
  {
    try reportingErrors {
      Converted(try SmeltPipeline.convert(base, to: path, try conversion.options(base, path, run)), nil)
    }
  }

  /// Runs a text through the model and records what each weight's inputs look like.
  /// - Parameters:
  ///   - text: what runs, in windows.
  ///   - path: the statistics file; an importance matrix for llama.cpp where it ends in `.gguf`.
  ///   - overwrite: whether a file that Smelt wrote is replaced.
  ///   - run: threads, memory, progress.
  /// - Throws: ``SmeltError``; of kind `unsupported` where the architecture cannot be run.
  @discardableResult
  public func calibrate(on text: Text, to path: String, overwrite: Bool = false, _ run: Run = Run()) throws
    -> Calibration
  {
    try reportingErrors {
      Calibration(
        try SmeltPipeline.calibrate(
          base, try text.windows(base), textPath: text.files.first ?? "", to: path, overwrite: overwrite,
          run.options))
    }
  }

  /// Calibrates and converts in one step.
  /// - Throws: as ``calibrate(on:to:overwrite:_:)`` and ``convert(to:_:_:)``.
  @discardableResult
  public func quantize(
    to path: String, _ conversion: Conversion, calibratedOn text: Text, _ run: Run = Run()
  ) throws -> Converted {
    try reportingErrors {
      let options = try conversion.options(base, path, run, calibrates: true)
      let (learned, made) = try SmeltPipeline.quantize(
        base, to: path, calibration: try text.windows(base), textPath: text.files.first ?? "",
        choosesObserver: conversion.recipe == nil, method: try conversion.methodOptions(), options)
      return Converted(made, Calibration(learned))
    }
  }

  /// Runs this model and a result made from it through the same forward pass over a text, and says how far apart they are.
  /// Without a text the weights alone are compared.
  /// - Throws: ``SmeltError`` of kind `usage` where the two are not the same architecture, `unsupported` where a text is given and
  ///   the architecture cannot be run.
  public func verify(
    _ result: Model, on text: Text? = nil, _ criteria: Criteria = Criteria(), _ run: Run = Run()
  ) throws -> Verification {
    try reportingErrors {
      let thresholds = try criteria.thresholds()
      guard let text else {
        return Verification(
          try verifyWeights(
            source: base, result: result.base, thresholds: thresholds,
            because: base.noForwardPass ?? "no text was given", run.options))
      }
      return Verification(
        try SmeltPipeline.verify(
          source: base, result: result.base, try text.windows(base, isApart: true), thresholds: thresholds,
          run.options))
    }
  }
}
