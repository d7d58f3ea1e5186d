"""Writes the folder `made`, and the rows of `EXPECTED.tsv` that describe it: python make.py (needs anndata 0.12).

Made cells in every layout that programs leave behind. What an `.h5ad` file holds is read back by anndata; the other rows come
from the counts themselves.
"""

import csv
import gzip
import io
import shutil
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

warnings.simplefilter("ignore")
anndata.settings.allow_write_nullable_strings = True
HERE = Path(__file__).parent
MADE = HERE / "made"
CELLS, GENES = 300, 60
TYPES = ["B cell", "CD4+/CD45RO+ Memory", "Dendritic", "NK/T"]
random = np.random.RandomState(7)
rows = []


def made_counts(cells, genes, mean):
    """Counts of cells of four types, each of which marks every fourth gene."""
    base = random.gamma(0.8, mean, genes)
    marks = np.arange(cells)[:, None] % 4 == np.arange(genes)[None, :] % 4
    depth = random.uniform(0.5, 2, cells)[:, None]
    return sp.csr_matrix(random.poisson(base * depth * np.where(marks, 3, 1)).astype(np.float32))


def gene_names(genes):
    return [f"GENE{gene:03}" for gene in range(genes)]


def ensembl(genes):
    return [f"ENSG{gene + 1:011}" for gene in range(genes)]


COUNTS = made_counts(CELLS, GENES, 1.2)


def cells(x=COUNTS, **parts):
    """The made cells with usual annotations; `x` and parts in the place of their own."""
    kinds = [TYPES[cell % 4] for cell in range(CELLS)]
    obs = pd.DataFrame(
        {
            "celltype": pd.Categorical(kinds),
            "celltype_coarse": pd.Categorical(["B cell" if kind == "B cell" else "other" for kind in kinds]),
            "batch": pd.Categorical([f"b{cell % 3 + 1}" for cell in range(CELLS)]),
        },
        index=[f"cell{cell}-1" for cell in range(CELLS)],
    )
    var = pd.DataFrame({"ensembl_id": ensembl(GENES)}, index=gene_names(GENES))
    return anndata.AnnData(x, obs=obs, var=var, **parts)


def expect(name, kind, matrix, storage, obs="", note=""):
    """A row of EXPECTED.tsv."""
    values = matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)
    total = f"{values.sum(dtype=np.float64):.4f}"
    rows.append([f"made/{name}", kind, *values.shape, storage, np.count_nonzero(values), total, obs, note])


def expect_h5ad(name):
    data = anndata.read_h5ad(MADE / name)
    note = "" if data.raw is None else f"raw.X {data.raw.shape}"
    columns = ",".join(data.obs.columns)
    if data.X is None:
        rows.append([f"made/{name}", "h5ad", *data.shape, "none", 0, 0.0, columns, note])
        return
    layout = data.X.format if sp.issparse(data.X) else "dense"
    expect(name, "h5ad", data.X, f"{layout}:{data.X.dtype}", columns, note)


def write(name, data, compression="gzip"):
    data.write_h5ad(MADE / f"{name}.h5ad", convert_strings_to_categoricals=False, compression=compression)
    expect_h5ad(f"{name}.h5ad")


def matrices():
    """One matrix in many encodings."""
    write("csr_float32", cells())
    write("csc_float32", cells(COUNTS.tocsc()))
    write("csr_int32", cells(COUNTS.astype(np.int32)))
    wide = COUNTS.astype(np.int64)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    write("csr_int64_values_and_indices", cells(wide))
    unsorted = COUNTS.copy()
    for start, end in zip(COUNTS.indptr, COUNTS.indptr[1:]):
        order = start + random.permutation(end - start)
        unsorted.indices[start:end], unsorted.data[start:end] = COUNTS.indices[order], COUNTS.data[order]
    unsorted.has_sorted_indices = False
    write("csr_unsorted_indices", cells(unsorted))
    dense = COUNTS.toarray()
    write("dense_float32", cells(dense))
    write("dense_float64_uncompressed", cells(dense.astype(np.float64)), None)
    write("dense_uint16_lzf", cells(dense.astype(np.uint16)), "lzf")
    logarithms = COUNTS.multiply(1e4 / COUNTS.sum(1)).tocsr().astype(np.float32).log1p()
    write("lognorm_X_counts_layer", cells(logarithms, layers={"counts": COUNTS}))
    write("no_X_counts_layer", cells(None, layers={"counts": COUNTS}))
    scaled = cells(logarithms.toarray())
    scaled.raw = cells()
    scaled = scaled[:, ::3].copy()
    scaled.X = np.clip((scaled.X - scaled.X.mean(0)) / scaled.X.std(0), -10, 10)
    write("scaled_X_counts_in_raw", scaled)
    write("zero_cells", cells()[:0].copy())
    empty = COUNTS.toarray()
    empty[[5, 50]] = 0
    empty[:, 9] = 0
    write("empty_cells_and_gene", cells(sp.csr_matrix(empty)))


def annotations():
    """One matrix with names and columns of many kinds."""
    data = cells()
    data.obs_names = [f"cell{cell % 100}" for cell in range(CELLS)]
    write("duplicate_cell_names", data)
    data = cells()
    data.var_names = ["GENE000" if gene == "GENE001" else gene for gene in data.var_names]
    write("duplicate_gene_names", data)
    data = cells()
    data.var["symbol"] = data.var_names
    data.var_names = [f"{name}.{version % 20 + 1}" for version, name in enumerate(data.var["ensembl_id"])]
    write("ensembl_versioned_index", data)
    data = cells()
    data.var_names = data.var_names.str.lower()
    write("lowercase_gene_names", data)
    data = cells()
    data.obs["celltype"] = data.obs["celltype"].cat.add_categories("unused").where(np.arange(CELLS) % 17 != 0)
    stages = pd.CategoricalDtype(["early", "middle", "late"], ordered=True)
    data.obs["stage"] = pd.Categorical([["early", "late"][cell % 2] for cell in range(CELLS)], dtype=stages)
    write("categorical_with_nan_ordered_unused", data)
    data = cells()
    data.obs["celltype_code"] = data.obs["celltype"].cat.codes
    data.obs["celltype"] = data.obs["celltype"].astype(str)
    write("string_labels_numeric_codes", data)
    data = cells()
    number = np.arange(CELLS)
    data.obs["n_int"] = pd.array(np.where(number % 11 == 0, None, number), dtype="Int64")
    data.obs["flag"] = pd.array(np.where(number % 13 == 0, None, number % 2 == 1), dtype="boolean")
    data.obs["plain_bool"] = number % 2 == 0
    data.obs["score"] = np.where(number % 7 == 0, np.nan, number / 7)
    data.obs["note"] = pd.array([None if cell % 9 == 0 else f"n{cell}" for cell in number], dtype="string")
    write("nullable_columns", data)
    data = cells()
    data.obs_names = [f"细胞{cell}" if cell % 2 == 0 else f"zelle_ü{cell}" for cell in range(CELLS)]
    data.obs.index.name, data.var.index.name = "barcode", "gene_symbols"
    data.obs["type α"] = data.obs["celltype"]
    write("unicode_and_named_index", data)
    data = cells()
    data.obsm["X_pca"] = random.normal(size=(CELLS, 4)).astype(np.float32)
    antibodies = {name: random.poisson(5, CELLS) for name in ["CD3", "CD4", "CD8", "CD19"]}
    data.obsm["protein"] = pd.DataFrame(antibodies, index=data.obs_names)
    data.obsp["connectivities"] = sp.random(CELLS, CELLS, 0.01, "csr", np.float32, random)
    data.varm["PCs"] = random.normal(size=(GENES, 4)).astype(np.float32)
    data.uns = {"colors": np.array(["#fff", "#000"]), "nested": {"a": 1, "b": np.array([1.5, 2.5]), "c": {"d": "text"}}}
    write("obsm_obsp_varm_uns", data)


def compound():
    """The layout of anndata 0.5: tables as compound data sets, categories in `uns`, counts in `raw.X`."""
    logarithms = np.log1p(COUNTS.toarray())
    kinds = np.arange(CELLS) % 4
    obs = np.zeros(CELLS, [("index", "S16"), ("celltype", "i1"), ("n_counts", "<f4")])
    obs["index"] = [f"cell{cell}-1".encode() for cell in range(CELLS)]
    obs["celltype"], obs["n_counts"] = kinds, COUNTS.sum(1).A1
    var = np.zeros(GENES, [("index", "S13"), ("highly_variable", "?")])
    var["index"] = [name.encode() for name in gene_names(GENES)]
    with h5py.File(MADE / "compound_tables.h5ad", "w") as file:
        file.create_dataset("X", data=(logarithms - logarithms.mean(0)).astype(np.float32), compression="gzip")
        file.create_dataset("obs", data=obs, compression="gzip")
        file.create_dataset("var", data=var, compression="gzip")
        raw = file.create_group("raw.X")
        raw.attrs["h5sparse_format"], raw.attrs["h5sparse_shape"] = "csr", np.array(COUNTS.shape)
        for part in ["data", "indices", "indptr"]:
            raw.create_dataset(part, data=getattr(COUNTS, part), compression="gzip")
        file.create_dataset("raw.var", data=var[["index"]].astype([("index", "S13")]), compression="gzip")
        file.create_dataset("uns/celltype_categories", data=np.array(TYPES, "S28"))
    expect_h5ad("compound_tables.h5ad")


def gears():
    """Perturbed cells as GEARS annotates them: six controls, and one or two genes in either order."""
    targets = [f"GENE{gene:03}" for gene in range(8)] + ["ABSENT1", "ABSENT2"]
    single = [f"{gene}+ctrl" if at % 2 == 0 else f"ctrl+{gene}" for at, gene in enumerate(targets)]
    double = [f"{a}+{b}" for a, b in zip(targets[:4], targets[4:8])]
    conditions = ["ctrl"] * 6 + (single + double) * 3
    counts = made_counts(len(conditions), 50, 1)
    is_control = [condition == "ctrl" for condition in conditions]
    doses = ["1" if control else "1+1" for control in is_control]
    names = [f"A549_{condition}_{dose}" for condition, dose in zip(conditions, doses)]
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(conditions),
            "cell_type": pd.Categorical(["A549"] * len(conditions)),
            "dose_val": pd.Categorical(doses),
            "control": np.array(is_control, np.int64),
            "condition_name": pd.Categorical(names),
            "split": pd.Categorical([["train", "test", "val"][cell % 3] for cell in range(len(conditions))]),
        },
        index=pd.Index([f"cell{cell}-1" for cell in range(len(conditions))], name="cell_barcode"),
    )
    symbols = pd.Categorical(gene_names(50))
    var = pd.DataFrame({"feature_name": symbols}, index=pd.Index(ensembl(50), name="gene_id"))
    logarithms = counts.multiply(1e4 / counts.sum(1)).tocsr().astype(np.float32).log1p()
    write("gears_style", anndata.AnnData(logarithms, obs=obs, var=var, layers={"counts": counts.toarray()}))


def cellxgene():
    """Labels and ontology terms by the schema of CELLxGENE, Ensembl ids as names of genes."""
    n_cells = 120
    columns = {
        "assay": ["10x 3' v3", "10x 3' v2", "Drop-seq"],
        "assay_ontology_term_id": ["EFO:0009922", "EFO:0009899", "EFO:0008722"],
        "tissue": ["heart right ventricle", "heart left ventricle"],
        "tissue_ontology_term_id": ["UBERON:0002080", "UBERON:0002084"],
        "disease": ["normal"],
        "disease_ontology_term_id": ["PATO:0000461"],
        "cell_type": ["fibroblast", "cardiac muscle cell"],
    }
    obs = {name: pd.Categorical([values[cell % len(values)] for cell in range(n_cells)]) for name, values in columns.items()}
    obs = pd.DataFrame(obs, index=[f"cell{cell}-1" for cell in range(n_cells)])
    obs["is_primary_data"] = True
    var = pd.DataFrame({"feature_biotype": pd.Categorical(["gene"] * 40)}, index=ensembl(40))
    uns = {"schema_version": "2.0.0", "title": "Made cells — of no heart"}
    write("cellxgene_style", anndata.AnnData(made_counts(n_cells, 40, 1), obs=obs, var=var, uns=uns))


def citeseq():
    """RNA, antibodies and hashtags of the same cells: as MuData writes them, and the first two as files."""
    n_cells, write_elem = 40, anndata.io.write_elem
    names = [f"cell{cell}-1" for cell in range(n_cells)]
    clusters = [None if cell % 4 == 0 else f"c{cell % 2}" for cell in range(n_cells)]
    obs = pd.DataFrame({"batch": pd.Categorical(["b1"] * n_cells), "cluster": pd.Categorical(clusters)}, index=names)
    features = {"rna": gene_names(50), "prot": ["CD3", "CD4", "CD8", "CD19", "CD56"], "hto": ["HTO1", "HTO2"]}
    modalities = {
        name: anndata.AnnData(made_counts(n_cells, len(of), 3), obs=obs if name == "rna" else obs[[]], var=pd.DataFrame(index=of))
        for name, of in features.items()
    }
    with h5py.File(MADE / "citeseq.h5mu", "w") as file:
        file.attrs["axis"], file.attrs["encoding-type"], file.attrs["encoding-version"] = 0, "MuData", "0.1.0"
        for name, data in modalities.items():
            write_elem(file, f"mod/{name}", data, dataset_kwargs={"compression": "gzip"})
            write_elem(file, f"obsmap/{name}", np.arange(1, n_cells + 1, dtype=np.uint32))
        file["mod"].attrs["mod-order"] = list(modalities)
        write_elem(file, "obs", obs[[]])
        write_elem(file, "var", pd.DataFrame(index=[name for of in features.values() for name in of]))
    for name in ["rna", "prot"]:
        modalities[name].obs = obs
        write(f"citeseq_{name}", modalities[name])


def loom():
    with h5py.File(MADE / "genes_by_cells.loom", "w") as file:
        file.create_dataset("matrix", data=COUNTS.T.toarray(), compression="gzip")
        data = cells()
        text = h5py.string_dtype()
        for path, values in [
            ("row_attrs/Gene", data.var_names),
            ("row_attrs/Accession", data.var["ensembl_id"]),
            ("col_attrs/CellID", data.obs_names),
            ("col_attrs/ClusterName", data.obs["celltype"].astype(str)),
            ("col_attrs/batch", data.obs["batch"].astype(str)),
            ("attrs/LOOM_SPEC_VERSION", "3.0.0"),
        ]:
            file.create_dataset(path, data=values if isinstance(values, str) else list(values), dtype=text)
        for group in ["layers", "row_graphs", "col_graphs"]:
            file.create_group(group)
    expect("genes_by_cells.loom", "loom", COUNTS, "csr:float32", "ClusterName,batch")


def compress(path, text):
    """The same bytes at any time."""
    with open(path, "wb") as file, gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed:
        packed.write(text.encode())


def table_of_r():
    """Genes by cells as R writes them: quoted names, and a header that is one column short."""
    text = io.StringIO()
    text.write(",".join(f'"CELL_{cell:06}"' for cell in range(CELLS)) + "\n")
    for name, row in zip(ensembl(GENES), COUNTS.T.toarray().astype(int)):
        text.write(f'"{name}",' + ",".join(map(str, row)) + "\n")
    compress(MADE / "genes_by_cells_of_r.csv.gz", text.getvalue())
    expect("genes_by_cells_of_r.csv.gz", "csv.gz genes x cells", COUNTS, "dense:int")


def barcodes(n_cells):
    return ["".join("ACGT"[cell // 4**at % 4] for at in range(16)) + "-1" for cell in range(n_cells)]


def triplet(folder, names, features, counts):
    """A folder of Cell Ranger: coordinates by column, names of cells and of features."""
    folder.mkdir()
    matrix = counts.T.tocsc().astype(int)
    lines = ["%%MatrixMarket matrix coordinate integer general", "%", f"{matrix.shape[0]} {matrix.shape[1]} {matrix.nnz}"]
    columns = np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
    lines += [f"{row + 1} {column + 1} {value}" for row, column, value in zip(matrix.indices, columns, matrix.data)]
    for name, text in [("matrix.mtx", lines), ("barcodes.tsv", barcodes(counts.shape[0])), (names, features)]:
        text = "\n".join(text) + "\n"
        if names.startswith("features"):
            compress(folder / f"{name}.gz", text)
        else:
            (folder / name).write_text(text)


def cell_ranger_2():
    """A group for every genome, of which one file has two."""
    human, mouse = made_counts(12, 40, 0.1), made_counts(12, 40, 0.1)
    symbols, ids = gene_names(40), ensembl(40)
    for file_name, genomes in [("cell_ranger_2.h5", {"hg19": human}), ("cell_ranger_2_two_genomes.h5", {"hg19": human, "mm10": mouse})]:
        with h5py.File(MADE / file_name, "w") as file:
            for genome, counts in genomes.items():
                matrix = counts.astype(np.int32)
                group = file.create_group(genome)
                parts = {"barcodes": np.array(barcodes(12), "S18"), "gene_names": np.array(symbols, "S14"), "genes": np.array(ids, "S15")}
                parts |= {"data": matrix.data, "indices": matrix.indices.astype(np.int64), "indptr": matrix.indptr.astype(np.int64)}
                parts["shape"] = np.array([40, 12], np.int32)
                for name, values in parts.items():
                    group.create_dataset(name, data=values, compression="gzip")
                kind = "10x h5 (v2 layout)" if len(genomes) == 1 else f"10x h5 (v2 layout, two genomes) genome={genome}"
                expect(file_name, kind, counts, "csr:float32")
    triplet(MADE / "cell_ranger_2", "genes.tsv", [f"{id}\t{symbol}" for id, symbol in zip(ids, symbols)], human)
    expect("cell_ranger_2", "10x mtx triplet (genes.tsv)", human, "csc:float32")


def cell_ranger_3():
    """More cells than a shard of the tests."""
    n_cells = 900
    counts = made_counts(n_cells, GENES, 0.06)
    matrix = counts.astype(np.int32)
    symbols, ids = gene_names(GENES), ensembl(GENES)
    with h5py.File(MADE / "cell_ranger_3.h5", "w") as file:
        file.attrs["filetype"], file.attrs["version"] = "matrix", 2
        features = {"id": ids, "name": symbols, "feature_type": ["Gene Expression"] * GENES, "genome": ["GRCh38"] * GENES}
        parts = {f"features/{name}": np.array(values, "S") for name, values in features.items()}
        parts |= {"features/_all_tag_keys": np.array(["genome"], "S"), "barcodes": np.array(barcodes(n_cells), "S18")}
        parts |= {"data": matrix.data, "indices": matrix.indices.astype(np.int64), "indptr": matrix.indptr.astype(np.int64)}
        parts["shape"] = np.array([GENES, n_cells], np.int32)
        for name, values in parts.items():
            file.create_dataset(f"matrix/{name}", data=values, compression="gzip")
    expect("cell_ranger_3.h5", "10x h5 (v3 layout)", counts, "csr:float32")
    features = [f"{id}\t{symbol}\tGene Expression" for id, symbol in zip(ids, symbols)]
    triplet(MADE / "cell_ranger_3", "features.tsv", features, counts)
    expect("cell_ranger_3", "10x mtx.gz triplet (features.tsv.gz)", counts, "csc:float32")


shutil.rmtree(MADE, ignore_errors=True)
MADE.mkdir()
for part in [matrices, annotations, compound, gears, cellxgene, citeseq, loom, table_of_r, cell_ranger_2, cell_ranger_3]:
    part()
with open(HERE / "EXPECTED.tsv", newline="") as file:
    kept = [row for row in csv.reader(file, delimiter="\t") if not row[0].startswith("made/")]
with open(HERE / "EXPECTED.tsv", "w", newline="") as file:
    csv.writer(file, delimiter="\t", lineterminator="\n").writerows(kept + rows)
