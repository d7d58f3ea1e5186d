process SCGPT_PERTURBREVERSE {
    tag "${meta.id}"
    label 'process_medium'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/*'), val(perturb), val(query), val(target_column), val(target)
    tuple val(meta2), path(model, stageAs: 'model/*')
    path genes_file, stageAs: 'genes/*'

    output:
    tuple val(meta), path("${prefix}.tsv"), emit: tsv
    tuple val(meta), path("${prefix}.evaluate.tsv"), emit: evaluate, optional: true
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-perturb'), eval('scgpt-perturb --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def perturbations = perturb ? "--perturb '${[perturb].flatten().join(',')}'" : ''
    def genes = genes_file ? "--genes-file ${genes_file}" : ''
    def queries = query ? "--query '${[query].flatten().join(',')}'" : ''
    def state = target ? "--target-column '${target_column}' --target '${target}'" : ''
    def evaluate = query ? "--evaluate ${prefix}.evaluate.tsv" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-perturb reverse \\
        --input ${input} \\
        --model ${model} \\
        --output ${prefix}.tsv \\
        --record ${prefix}.run.json \\
        ${queries} \\
        ${state} \\
        ${perturbations} \\
        ${genes} \\
        ${evaluate} \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    printf 'query\\trank\\tperturbation\\n' > ${prefix}.tsv
    touch ${prefix}.evaluate.tsv
    echo '{}' > ${prefix}.run.json
    """
}
