// `quantize`: calibration, the choice of codes and scales, and the conversion in one.

import SmeltContainers
import SmeltQuantization
import SmeltStorage

/// Calibrates and converts in one: the statistics lie beside the result while they are needed.
/// - Parameters:
///   - choosesObserver: whether the observer is ours to choose: the weighted mean square error then.
///   - method: what chooses codes and scales; nil: rounding to nearest. One without a name is settled by the plan.
///   - budget: how large the result may be; the recipe is chosen by measured sensitivity then.
///   - statisticsPath: where the statistics are kept as `calibrate` would write them; nil: nowhere.
/// - Throws: as `calibrate` and `convert`.
package func quantize(
  _ model: Model, to path: String, calibration: Windows, textPath: String, choosesObserver: Bool,
  method: MethodOptions? = nil, budget: Budget? = nil, policy: CalibrationPolicy = CalibrationPolicy(),
  savingStatistics statisticsPath: String? = nil, _ options: ConvertOptions
) throws -> (CalibrationSummary, ConvertSummary) {
  try model.requireForwardPass()
  try requireName(path)
  try model.refuseAlias(path, and: calibration.files + [textPath])
  let outputs = [path] + [budget?.recipePath, statisticsPath].compactMap { $0 }
  return try options.run.holding(outputs, "quantize") {
    try quantizing(
      model, to: path, calibration: calibration, textPath: textPath, choosesObserver: choosesObserver,
      method: method, budget: budget, policy: policy, saved: statisticsPath, options)
  }
}

private func quantizing(
  _ model: Model, to path: String, calibration: Windows, textPath: String, choosesObserver: Bool,
  method: MethodOptions?, budget: Budget?, policy: CalibrationPolicy, saved savedPath: String?,
  _ options: ConvertOptions
) throws -> (CalibrationSummary, ConvertSummary) {
  if !options.resume { try options.target.requirePlace(path, overwrite: options.overwrite) }
  let recipes = Replacement(overwrite: options.overwrite, .recipe)
  if let file = budget?.recipePath {
    try model.refuseAlias(file, and: calibration.files + [textPath])
    try requireCreatable(file, replacing: recipes)
  }
  let saved = try savedPath.map {
    try SavedStatistics(
      $0, model, texts: calibration.files + [textPath], overwrite: options.overwrite, resumes: options.resume)
  }
  // What the plan or the budget refuses is refused before the long pass, not after it.
  _ = try Plan(model, options)
  let table = try budget.map { try BudgetTable(model, $0, options) }
  let statisticsPath = withoutSlash(path) + ".partial-statistics"
  guard pathKind(statisticsPath) == .nothing, !isSymbolicLink(statisticsPath) else {
    throw RequestError(
      .cannotCreate, "'\(statisticsPath)' exists, and the statistics of this run would have that name",
      help: "move it away, or choose another name for the result")
  }
  // Stopped in its first half, there is no journal of the second.
  let isConverting = pathKind(ResultJournal.path(path)) == .file
  let isPreparing = pathKind(PreparedStore.journalPath(path)) == .file
  let isCalibrating = pathKind(ResultJournal.path(statisticsPath)) == .file
  if options.resume, !isConverting, !isCalibrating, !isPreparing {
    // A result that is there already is said to be, before the passes over the text.
    try options.target.requirePlace(path, overwrite: options.overwrite)
    throw RequestError.nothingToResume(ResultJournal.path(path))
  }
  if !options.resume, let table {
    try table.requirePossible(table.smallest(), model, to: path, options)
  }
  return try calibrating(
    model, calibration, textPath: textPath, to: statisticsPath, overwrite: false, policy: policy,
    checkpoints: CalibrationProgressOptions(
      resume: options.resume && isCalibrating, seconds: options.checkpointSeconds), options.run
  ) { summary in
    defer { removeFile(statisticsPath) }
    try saved?.write(statisticsPath)
    var (summary, options) = (summary, options)
    summary.path = saved?.path
    options.resumesPrepared = options.resume && isPreparing
    options.resume = options.resume && (isConverting || !isCalibrating && !isPreparing)
    return try quantizing(
      model, to: path, calibration, summary, statisticsPath, choosesObserver, method, table, budget, options)
  }
}

/// The second half: with what calibration learned.
private func quantizing(
  _ model: Model, to path: String, _ calibration: Windows, _ summary: CalibrationSummary,
  _ statisticsPath: String,
  _ choosesObserver: Bool, _ method: MethodOptions?, _ table: BudgetTable?, _ budget: Budget?,
  _ options: ConvertOptions
) throws -> (CalibrationSummary, ConvertSummary) {
  var options = options
  options.statistics = try readStatistics(statisticsPath, for: model)
  if choosesObserver { options.recipe.observer = .mse }
  func write(_ options: ConvertOptions) throws -> ConvertSummary {
    var (prepared, options) = (model, options)
    // A budget promises a smallest size before the pass, to which a method would add what it says of its rows.
    let wasOpen = budget == nil && method?.isOpen == true
    let method = wasOpen ? try method?.settled(for: model, options) : method
    options.method = method?.json ?? JSON(.null)
    if let method, method.needsInputs {
      prepared = try prepare(model, calibration, for: path, method, options)
    }
    func convert() throws -> ConvertSummary { try converting(prepared, to: path, options) }
    var made = try prepared.prepared?.keepingIfStopped(convert) ?? convert()
    if wasOpen, let method, method.method == .gptq { made.chosenMethod = method.choice }
    return made
  }
  guard let table else { return (summary, try write(options)) }
  let errors = try table.errors(model, calibration, options)
  var recipe = options.recipe
  let converted = try table.convertWithin(path, options) { allowed in
    let chosen = table.choose(errors, allowed, observer: options.recipe.observer)
    recipe = chosen.recipe
    let planned = chosen.summary.bytes.planned
    return (chosen.recipe, planned, planned <= table.least, chosen.summary)
  } write: {
    try write($0)
  }
  if let file = budget?.recipePath {
    try writeFile(
      file, Array(OutputKind.savedText(recipe.json).utf8),
      replacing: Replacement(overwrite: options.overwrite, .recipe))
  }
  return (summary, converted)
}
