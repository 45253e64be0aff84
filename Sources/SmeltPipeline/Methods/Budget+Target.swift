// A result that is never larger than its target: what was written is counted before it gets its name; where it is too large, the
// schemes are chosen again with less. Formats/methods.md, section 5.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

extension BudgetTable {
  /// How often a result is written before the target is given up.
  private static let attempts = 24
  /// Results up to this size are measured rather than estimated, to say how small they can be.
  private static let measuredBytes = 1 << 30

  /// Room for what only the finished run knows of itself: hashes and settings in the provenance, lines of the model card.
  private static let noteBytes = 4096

  /// Refuses a target that nothing meets, before the work it would take, and names the smallest result.
  /// - Parameter recipe: what gives the smallest result.
  /// - Throws: `RequestError` usage.
  func requirePossible(
    _ recipe: Recipe, _ model: Model, to path: String, _ options: ConvertOptions
  ) throws {
    guard let target, least > allowed - allowed / 4 else { return }
    let isMeasured = options.target.compression == nil || least <= BudgetTable.measuredBytes
    // Estimates of what codecs make of weights are good to a few parts in a hundred.
    let smallest =
      try isMeasured
      ? measure(recipe, model, path, options) + BudgetTable.noteBytes : least + least / 32
    guard smallest > target else { return }
    throw RequestError(
      .usage,
      "the smallest possible result has \(isMeasured ? "" : "about ")\(smallest) bytes (\(byteText(smallest))), "
        + "--target-size asks for at most \(target)",
      help: "give --target-size at least \(ByteSize(smallest)), or schemes of fewer bits with --candidates")
  }

  /// Bytes of all files of the result that a recipe gives. Nothing is left of it.
  private func measure(_ recipe: Recipe, _ model: Model, _ path: String, _ options: ConvertOptions) throws
    -> Int
  {
    var options = options
    (options.recipe, options.byteLimit, options.resume) = (recipe, 0, false)
    options.run.progress = SilentProgress()
    do {
      // Under a name that no lock is held for: nothing gets it.
      _ = try converting(model, to: path + ".partial-measured", options)
    } catch let error as ResultTooLarge {
      return error.bytes
    }
    preconditionFailure("every result has more bytes than none")
  }

  /// Chooses and writes, with less each time that the result was larger than its target.
  /// - Parameters:
  ///   - choose: the recipe for so many bytes of weights, the bytes it is estimated to take, whether none takes less, and the table.
  ///   - write: writes a result.
  func convertWithin(
    _ path: String, _ options: ConvertOptions,
    choose: (Int) throws -> (recipe: Recipe, planned: Int, isLeast: Bool, summary: BudgetSummary?),
    write: (ConvertOptions) throws -> ConvertSummary
  ) throws -> ConvertSummary {
    var options = options
    options.byteLimit = target
    var allowed = self.allowed
    // What another run began with is what it goes on with.
    let journals =
      (options.resumesPrepared ? [PreparedStore.journalPath(path)] : [])
      + (options.resume ? [ResultJournal.path(path)] : [])
    for journal in journals {
      if let begun = try Journal.read(journal)?.header["budget_bytes"]?.integer { allowed = begun }
    }
    var last = 0
    for attempt in 1...BudgetTable.attempts {
      let choice = try choose(allowed)
      (options.recipe, options.budgetBytes) = (choice.recipe, allowed)
      do {
        var summary = try write(options)
        summary.budget = choice.summary
        if let target, let warning = pointless(target, summary, choice.recipe) {
          summary.warnings.append(warning)
        }
        return summary
      } catch let error as ResultTooLarge {
        options.run.progress.announce(
          "\(byteText(error.bytes)) are more than \(byteText(error.limit)); the schemes are chosen again with less"
        )
        guard !choice.isLeast else { throw tooSmall(error) }
        let excess = error.bytes - error.limit
        // Longer steps each time: a little less asked for may change nothing.
        // The same size once more: the step was smaller than what the choice can tell apart.
        let least = error.bytes == last ? choice.planned / 1024 : 0
        last = error.bytes
        allowed = min(allowed, choice.planned) - attempt * max(excess + excess / 16 + 1, least)
        (options.resume, options.resumesPrepared) = (false, false)
      }
    }
    throw RequestError(
      .usage, "no choice of schemes was found whose result has at most \(target ?? 0) bytes",
      help: "ask for more, or for other schemes with --candidates")
  }

  private func tooSmall(_ error: ResultTooLarge) -> RequestError {
    RequestError(
      .usage,
      "the smallest possible result has \(error.bytes) bytes, --target-size asks for at most \(error.limit)",
      help: "give --target-size at least \(ByteSize(error.bytes))")
  }

  /// What is said of a target that asks for nothing.
  private func pointless(_ target: Int, _ summary: ConvertSummary, _ recipe: Recipe) -> String? {
    let words =
      "--target-size \(ByteSize(target)) is more than the result needs: it has \(summary.byteCount) bytes"
    if summary.exact == summary.converted.count { return words + " and changes no number" }
    guard isUniform, (recipe.defaultScheme as? Int8Coded)?.bits == Int8Coded.range.upperBound else {
      return nil
    }
    return words + " with \(Int8Coded.range.upperBound) bits a code, the most there are"
  }
}

/// Converts with one number of bits for all weights, without a look at what they are multiplied with.
/// - Throws: `RequestError` usage where nothing fits; as `convert`.
package func quantize(_ model: Model, to path: String, within budget: Budget, _ options: ConvertOptions)
  throws
  -> ConvertSummary
{
  if !options.resume { try options.target.requirePlace(path, overwrite: options.overwrite) }
  let table = try BudgetTable(model, budget, options)
  if !options.resume {
    let smallest = Recipe(Int8Coded(bits: Int8Coded.range.lowerBound))
    try table.requirePossible(smallest, model, to: path, options)
  }
  return try table.convertWithin(path, options) { allowed in
    let (recipe, bits) = table.uniform(allowed)
    return (recipe, allowed, bits <= Int8Coded.range.lowerBound, nil)
  } write: {
    try convert(model, to: path, $0)
  }
}

extension BudgetTable {
  /// Measures each role of each layer.
  /// - Returns: errors by group and measured scheme.
  func errors(_ model: Model, _ windows: Windows, _ options: ConvertOptions) throws -> [[Double]] {
    try measureSensitivity(
      model.family, model.weights, windows.first(Budget.tokens), roles, measured, options)
  }
}
