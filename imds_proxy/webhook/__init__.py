"""The admission webhook: gives pods what EKS Pod Identity gives them. Reads service accounts, holds no credentials."""
