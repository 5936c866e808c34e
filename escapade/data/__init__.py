"""Small real data sets: loaded, verified by checksum, preprocessed and labelled."""

from escapade.data._avila import avila as avila
from escapade.data._catalogue import available as available
from escapade.data._catalogue import load as load
from escapade.data._dataset import Dataset as Dataset
from escapade.data._fashion_mnist import fashion_mnist as fashion_mnist
from escapade.data._sklearn import breast_cancer as breast_cancer
from escapade.data._sklearn import digits as digits
