"""The ledger of documented limits: what texts say of recurrent networks, what was measured, and the verdict. No torch.

Every claim is a function from measured cases to a `claim.Claim`; its verdict follows from the intervals of its
conditions by the rules of `verdict`, and its sentences are made of the figures.
"""
