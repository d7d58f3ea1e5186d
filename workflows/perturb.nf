// Predicts perturbation responses of many samples, and ranks perturbations toward target states, with one model. Without `model`, it is
// first fine-tuned on perturbed cells.

include { SCGPT_FINETUNEPERTURBATION } from '../modules/scgpttools/scgpt/finetuneperturbation/main'
include { SCGPT_PERTURBPREDICT       } from '../modules/scgpttools/scgpt/perturbpredict/main'
include { SCGPT_PERTURBREVERSE       } from '../modules/scgpttools/scgpt/perturbreverse/main'
include { labeled                   } from './tables'

workflow PERTURB {
    take:
    samples // channel: [meta, cells]
    queries // CSV with the column `query_id`, and `perturb`, `query`, or `column` and `target`
    model // directory of a fine-tuned model, or []
    reference // perturbed and control cells, or []
    checkpoint // pre-trained model to start training from, or []
    genes // genes to perturb where a query names none, one per line, or []

    main:
    if (model) {
        trained = channel.value([[id: model.name], model])
    }
    else {
        SCGPT_FINETUNEPERTURBATION(channel.value([[id: 'model'], reference]), checkpoint)
        trained = SCGPT_FINETUNEPERTURBATION.out.model
    }
    rows = channel.fromPath(queries, checkIfExists: true)
        .splitCsv(header: true, strip: true)
        .toList()
        .flatMap { all ->
            // Errors thrown inside functions would only reach the log.
            def invalid = all.findResult { row -> problem(row, all) }
            if (invalid) {
                error("`${queries}`: ${invalid}")
            }
            all
        }
    requested = samples
        .combine(rows)
        .map { meta, cells, row -> [meta + [id: "${meta.id}.${row.query_id}".toString(), sample: meta.id, query_id: row.query_id], cells, row] }
        .branch { _meta, _cells, row ->
            reverse: row.query || row.target
            predict: true
        }
    forward = requested.predict.multiMap { meta, cells, row ->
        cells: [meta, cells, names(row.perturb)]
        genes: row.perturb ? [] : genes
    }
    SCGPT_PERTURBPREDICT(forward.cells, trained, forward.genes)
    backward = requested.reverse.multiMap { meta, cells, row ->
        cells: [meta, cells, names(row.perturb), names(row.query), row.column ?: [], row.target ?: []]
        genes: row.perturb ? [] : genes
    }
    SCGPT_PERTURBREVERSE(backward.cells, trained, backward.genes)
    predicted = SCGPT_PERTURBPREDICT.out.h5ad
    predictions = lines(SCGPT_PERTURBPREDICT.out.table)
        .collectFile(name: 'predictions.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)
    candidates = lines(SCGPT_PERTURBREVERSE.out.tsv)
        .collectFile(name: 'candidates.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)
    topk_accuracy = lines(SCGPT_PERTURBREVERSE.out.evaluate)
        .collectFile(name: 'topk_accuracy.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)

    models = model ? channel.empty() : trained.map { _meta, directory -> directory }
    files = models.mix(SCGPT_PERTURBPREDICT.out.record.mix(SCGPT_PERTURBREVERSE.out.record).map { _meta, record -> record })

    emit:
    files // channel: inputs of the report
    trained // channel: [meta, directory]
    predicted // channel: [meta, predicted expression]
    predictions // channel: table of the most changed genes of all samples and queries
    candidates // channel: table of the ranked perturbations of each target state
    topk_accuracy // channel: table of the top-k accuracy of queries with a known perturbation
}

// Error in a row of the query table, or null.
def problem(row, all) {
    if (!row.query_id) {
        return "every row needs a `query_id`, found ${row}"
    }
    if (!(row.query_id ==~ /[A-Za-z0-9][A-Za-z0-9_-]*/)) {
        return "query `${row.query_id}`: use letters, digits, `_` and `-` only, because files are named after it"
    }
    if (all.count { other -> other.query_id == row.query_id } > 1) {
        return "query `${row.query_id}` is listed twice"
    }
    if (!row.column != !row.target) {
        return "query `${row.query_id}`: `column` and `target` go together: the column of obs and the value of the target state"
    }
    return row.query && row.target ? "query `${row.query_id}`: give `query`, or `column` and `target`, not both" : null
}

// Items of a semicolon-separated list.
def names(text) {
    return text ? text.tokenize(';').collect { name -> name.trim() } : []
}

// Texts of tables, sorted by sample and query, with these as first columns.
def lines(tables) {
    return tables
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .flatMap { all -> all.collect { meta, table -> labeled(table, [sample: meta.sample, query_id: meta.query_id]) } }
}
