"""What probes share: made-up problems, nets and their training, clocks and fits, and how measurements are run."""
