"""Two-sided tails of Student's t distribution in 60 digits: golden/student.tsv."""

from pathlib import Path

from mpmath import betainc, mp, mpf

mp.dps = 60


def tail(t, freedom):
    t, freedom = mpf(t), mpf(freedom)
    return betainc(freedom / 2, mpf(1) / 2, 0, freedom / (freedom + t * t), regularized=True)


rows = ["t\tfreedom\tprobability"]
for freedom in (1.5, 3.25, 11.0, 57.8, 199.0, 201.5, 2345.6, 40001.0, 1e6):
    for t in (0.01, 0.7, 1.7, 1.75, 3.0, 9.0, 20.0, 36.0, 1000.0):
        p = tail(t, freedom)
        if p > mpf("1e-305"):
            rows.append(f"{t!r}\t{freedom!r}\t{mp.nstr(p, 18)}")
Path(__file__).with_name("student.tsv").write_text("\n".join(rows) + "\n")
