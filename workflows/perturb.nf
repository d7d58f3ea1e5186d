// Tells what perturbations do to the cells of many samples, and which would lead to a state, with one model, which is trained on
// perturbed cells first unless it is given.

include { SCGPT_FINETUNEPERTURBATION } from '../modules/scgpttools/scgpt/finetuneperturbation/main'
include { SCGPT_PERTURBPREDICT       } from '../modules/scgpttools/scgpt/perturbpredict/main'
include { SCGPT_PERTURBREVERSE       } from '../modules/scgpttools/scgpt/perturbreverse/main'
include { labelled                   } from './tables'

workflow PERTURB {
    take:
    samples // channel: [meta, cells]
    questions // CSV with the column `question`, and `perturb`, `query`, or `column` and `target`
    model // folder of a trained model, or []
    reference // perturbed and control cells, or []
    checkpoint // pre-trained model to start training from, or []
    genes // genes to perturb where a question names none, one a line, or []

    main:
    if (model) {
        trained = channel.value([[id: model.name], model])
    }
    else {
        SCGPT_FINETUNEPERTURBATION(channel.value([[id: 'model'], reference]), checkpoint)
        trained = SCGPT_FINETUNEPERTURBATION.out.model
    }
    rows = channel.fromPath(questions, checkIfExists: true)
        .splitCsv(header: true, strip: true)
        .toList()
        .flatMap { all ->
            // An error that a function throws would reach nobody but the log.
            def wrong = all.findResult { row -> problem(row, all) }
            if (wrong) {
                error("`${questions}`: ${wrong}")
            }
            all
        }
    asked = samples
        .combine(rows)
        .map { meta, cells, row -> [meta + [id: "${meta.id}.${row.question}".toString(), sample: meta.id, question: row.question], cells, row] }
        .branch { _meta, _cells, row ->
            reverse: row.query || row.target
            predict: true
        }
    ahead = asked.predict.multiMap { meta, cells, row ->
        cells: [meta, cells, names(row.perturb)]
        genes: row.perturb ? [] : genes
    }
    SCGPT_PERTURBPREDICT(ahead.cells, trained, ahead.genes)
    back = asked.reverse.multiMap { meta, cells, row ->
        cells: [meta, cells, names(row.perturb), names(row.query), row.column ?: [], row.target ?: []]
        genes: row.perturb ? [] : genes
    }
    SCGPT_PERTURBREVERSE(back.cells, trained, back.genes)
    predicted = SCGPT_PERTURBPREDICT.out.h5ad
    predictions = lines(SCGPT_PERTURBPREDICT.out.table)
        .collectFile(name: 'predictions.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)
    candidates = lines(SCGPT_PERTURBREVERSE.out.tsv)
        .collectFile(name: 'candidates.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)
    hits = lines(SCGPT_PERTURBREVERSE.out.evaluate)
        .collectFile(name: 'hits.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)

    models = model ? channel.empty() : trained.map { _meta, folder -> folder }
    files = models.mix(SCGPT_PERTURBPREDICT.out.record.mix(SCGPT_PERTURBREVERSE.out.record).map { _meta, record -> record })

    emit:
    files // channel: what the report is made of
    trained // channel: [meta, folder]
    predicted // channel: [meta, expression after perturbations]
    predictions // channel: table of the most changed genes of all samples and questions
    candidates // channel: table of the perturbations that would lead to each state
    hits // channel: table of how often known causes were found
}

// What is wrong with a question, or null.
def problem(row, all) {
    if (!row.question) {
        return "every row needs a `question`, a name for it, found ${row}"
    }
    if (!(row.question ==~ /[A-Za-z0-9][A-Za-z0-9_-]*/)) {
        return "question `${row.question}`: use letters, digits, `_` and `-` only, because files are named after it"
    }
    if (all.count { other -> other.question == row.question } > 1) {
        return "question `${row.question}` is there twice"
    }
    if (!row.column != !row.target) {
        return "question `${row.question}`: `column` and `target` go together, the column and the value of the wanted state"
    }
    return row.query && row.target ? "question `${row.question}`: give `query`, or `column` and `target`, not both" : null
}

// Items of a list with semicolons between them.
def names(text) {
    return text ? text.tokenize(';').collect { name -> name.trim() } : []
}

// Texts of tables in the order of samples and questions, which their first columns tell.
def lines(tables) {
    return tables
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .flatMap { all -> all.collect { meta, table -> labelled(table, [sample: meta.sample, question: meta.question]) } }
}
