"""The papers that methods come from, as BibTeX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A publication.

    ``kind``: the BibTeX entry type; ``venue``: journal, proceedings or book; ``more``: further fields in order.
    """

    key: str
    authors: tuple[str, ...]
    title: str
    venue: str
    year: int
    kind: str = "inproceedings"
    more: tuple[tuple[str, str], ...] = ()

    def bibtex(self) -> str:
        """Return the BibTeX entry."""
        where = {"article": "journal", "misc": "howpublished"}.get(self.kind, "booktitle")
        fields = [
            ("author", " and ".join(self.authors)),
            ("title", f"{{{self.title}}}"),
            (where, self.venue),
            *self.more,
            ("year", str(self.year)),
        ]
        lines = [f"  {name} = {{{value}}}," for name, value in fields]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def _article(key: str, authors: tuple[str, ...], title: str, journal: str, year: int, **more: str) -> Paper:
    return Paper(key, authors, title, journal, year, "article", tuple(more.items()))


_KIM, _KUNDAJE = "Kim, Been", "Kundaje, Anshul"
_MUELLER, _SAMEK, _BINDER = r"M{\"u}ller, Klaus-Robert", "Samek, Wojciech", "Binder, Alexander"
_LAPUSCHKIN = "Lapuschkin, Sebastian"
_MONTAVON, _ERHAN, _KINDERMANS = r"Montavon, Gr{\'e}goire", "Erhan, Dumitru", "Kindermans, Pieter-Jan"
_NEURIPS = "Advances in Neural Information Processing Systems"
_ICML = "International Conference on Machine Learning"

PAPERS: dict[str, Paper] = {
    "Adebayo et al. 2018, NeurIPS": Paper(
        "adebayo2018sanity",
        ("Adebayo, Julius", "Gilmer, Justin", "Muelly, Michael", "Goodfellow, Ian", "Hardt, Moritz", _KIM),
        "Sanity Checks for Saliency Maps",
        _NEURIPS,
        2018,
    ),
    "Bach et al. 2015, PLoS ONE 10(7): e0130140": _article(
        "bach2015pixel",
        ("Bach, Sebastian", _BINDER, _MONTAVON, "Klauschen, Frederick", _MUELLER, _SAMEK),
        "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation",
        "PLoS ONE",
        2015,
        volume="10",
        number="7",
        pages="e0130140",
    ),
    "Bykov et al. 2022, AAAI": Paper(
        "bykov2022noisegrad",
        ("Bykov, Kirill", r"Hedstr{\"o}m, Anna", "Nakajima, Shinichi", r"H{\"o}hne, Marina M.-C."),
        "NoiseGrad: Enhancing Explanations by Introducing Stochasticity to Model Weights",
        "AAAI Conference on Artificial Intelligence",
        2022,
    ),
    "Chattopadhay et al. 2018, WACV": Paper(
        "chattopadhay2018gradcam",
        ("Chattopadhay, Aditya", "Sarkar, Anirban", "Howlader, Prantik", "Balasubramanian, Vineeth N."),
        "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks",
        "IEEE Winter Conference on Applications of Computer Vision",
        2018,
    ),
    "Desai and Ramaswamy 2020, WACV": Paper(
        "desai2020ablation",
        ("Desai, Saurabh", "Ramaswamy, Harish G."),
        "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free Localization",
        "IEEE Winter Conference on Applications of Computer Vision",
        2020,
    ),
    "Draelos and Carin 2020, arXiv:2011.08891": Paper(
        "draelos2020hirescam",
        ("Draelos, Rachel Lea", "Carin, Lawrence"),
        "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
        "arXiv:2011.08891",
        2020,
        "misc",
    ),
    "Erion et al. 2021, Nature Machine Intelligence 3: 620-631": _article(
        "erion2021improving",
        ("Erion, Gabriel", "Janizek, Joseph D.", "Sturmfels, Pascal", "Lundberg, Scott M.", "Lee, Su-In"),
        "Improving performance of deep learning models with axiomatic attribution priors and expected gradients",
        "Nature Machine Intelligence",
        2021,
        volume="3",
        pages="620--631",
    ),
    "Fu et al. 2020, BMVC": Paper(
        "fu2020axiom",
        ("Fu, Ruigang", "Hu, Qingyong", "Dong, Xiaohu", "Guo, Yulan", "Gao, Yinghui", "Li, Biao"),
        "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs",
        "British Machine Vision Conference",
        2020,
    ),
    "Hooker et al. 2019, NeurIPS": Paper(
        "hooker2019benchmark",
        ("Hooker, Sara", _ERHAN, _KINDERMANS, _KIM),
        "A Benchmark for Interpretability Methods in Deep Neural Networks",
        _NEURIPS,
        2019,
    ),
    "Jiang et al. 2021, IEEE TIP 30: 5875-5888": _article(
        "jiang2021layercam",
        ("Jiang, Peng-Tao", "Zhang, Chang-Bin", "Hou, Qibin", "Cheng, Ming-Ming", "Wei, Yunchao"),
        "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization",
        "IEEE Transactions on Image Processing",
        2021,
        volume="30",
        pages="5875--5888",
    ),
    "Kindermans et al. 2018, ICLR": Paper(
        "kindermans2018learning",
        (
            *(_KINDERMANS, r"Sch{\"u}tt, Kristof T.", "Alber, Maximilian", _MUELLER, _ERHAN, _KIM),
            r"D{\"a}hne, Sven",
        ),
        "Learning how to explain neural networks: PatternNet and PatternAttribution",
        "International Conference on Learning Representations",
        2018,
    ),
    "Kohlbrenner et al. 2020, IJCNN": Paper(
        "kohlbrenner2020best",
        ("Kohlbrenner, Maximilian", "Bauer, Alexander", "Nakajima, Shinichi", _BINDER, _SAMEK, _LAPUSCHKIN),
        "Towards Best Practice in Explaining Neural Network Decisions with LRP",
        "International Joint Conference on Neural Networks",
        2020,
    ),
    "Lapuschkin et al. 2019, Nature Communications 10: 1096": _article(
        "lapuschkin2019unmasking",
        (_LAPUSCHKIN, r"W{\"a}ldchen, Stephan", _BINDER, _MONTAVON, _SAMEK, _MUELLER),
        "Unmasking Clever Hans Predictors and Assessing What Machines Really Learn",
        "Nature Communications",
        2019,
        volume="10",
        pages="1096",
    ),
    "Lundberg and Lee 2017, NeurIPS": Paper(
        "lundberg2017unified",
        ("Lundberg, Scott M.", "Lee, Su-In"),
        "A Unified Approach to Interpreting Model Predictions",
        _NEURIPS,
        2017,
    ),
    "Montavon et al. 2017, Pattern Recognition 65: 211-222": _article(
        "montavon2017explaining",
        (_MONTAVON, _LAPUSCHKIN, _BINDER, _SAMEK, _MUELLER),
        "Explaining nonlinear classification decisions with deep Taylor decomposition",
        "Pattern Recognition",
        2017,
        volume="65",
        pages="211--222",
    ),
    "Montavon et al. 2019, LNCS 11700: 193-209": Paper(
        "montavon2019lrp",
        (_MONTAVON, _BINDER, _LAPUSCHKIN, _SAMEK, _MUELLER),
        "Layer-Wise Relevance Propagation: An Overview",
        "Explainable AI: Interpreting, Explaining and Visualizing Deep Learning",
        2019,
        "incollection",
        (("series", "Lecture Notes in Computer Science"), ("volume", "11700"), ("pages", "193--209")),
    ),
    "Muhammad and Yeasin 2020, IJCNN": Paper(
        "muhammad2020eigencam",
        ("Muhammad, Mohammed Bany", "Yeasin, Mohammed"),
        "Eigen-CAM: Class Activation Map using Principal Components",
        "International Joint Conference on Neural Networks",
        2020,
    ),
    "Ribeiro et al. 2016, KDD": Paper(
        "ribeiro2016trust",
        ("Ribeiro, Marco Tulio", "Singh, Sameer", "Guestrin, Carlos"),
        "``Why Should I Trust You?'': Explaining the Predictions of Any Classifier",
        "ACM SIGKDD International Conference on Knowledge Discovery and Data Mining",
        2016,
    ),
    "Selvaraju et al. 2020, IJCV 128: 336-359": _article(
        "selvaraju2020gradcam",
        (
            *("Selvaraju, Ramprasaath R.", "Cogswell, Michael", "Das, Abhishek", "Vedantam, Ramakrishna"),
            *("Parikh, Devi", "Batra, Dhruv"),
        ),
        "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization",
        "International Journal of Computer Vision",
        2020,
        volume="128",
        pages="336--359",
    ),
    "Shapley 1953, Contributions to the Theory of Games II": Paper(
        "shapley1953value",
        ("Shapley, Lloyd S.",),
        "A Value for n-Person Games",
        "Contributions to the Theory of Games II",
        1953,
        "incollection",
        (("publisher", "Princeton University Press"), ("pages", "307--317")),
    ),
    "Shrikumar et al. 2016, arXiv:1605.01713": Paper(
        "shrikumar2016not",
        ("Shrikumar, Avanti", "Greenside, Peyton", "Shcherbina, Anna", _KUNDAJE),
        "Not Just a Black Box: Learning Important Features Through Propagating Activation Differences",
        "arXiv:1605.01713",
        2016,
        "misc",
    ),
    "Shrikumar et al. 2017, ICML": Paper(
        "shrikumar2017learning",
        ("Shrikumar, Avanti", "Greenside, Peyton", _KUNDAJE),
        "Learning Important Features Through Propagating Activation Differences",
        _ICML,
        2017,
    ),
    "Simonyan et al. 2014, ICLR workshop": Paper(
        "simonyan2014deep",
        ("Simonyan, Karen", "Vedaldi, Andrea", "Zisserman, Andrew"),
        "Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps",
        "International Conference on Learning Representations, workshop track",
        2014,
    ),
    "Smilkov et al. 2017, ICML workshop": Paper(
        "smilkov2017smoothgrad",
        ("Smilkov, Daniel", "Thorat, Nikhil", _KIM, r"Vi{\'e}gas, Fernanda", "Wattenberg, Martin"),
        "SmoothGrad: removing noise by adding noise",
        "ICML workshop on visualization for deep learning",
        2017,
    ),
    "Springenberg et al. 2015, ICLR workshop": Paper(
        "springenberg2015striving",
        ("Springenberg, Jost Tobias", "Dosovitskiy, Alexey", "Brox, Thomas", "Riedmiller, Martin"),
        "Striving for Simplicity: The All Convolutional Net",
        "International Conference on Learning Representations, workshop track",
        2015,
    ),
    "Strumbelj and Kononenko 2014, KAIS 41: 647-665": _article(
        "strumbelj2014explaining",
        (r"{\v{S}}trumbelj, Erik", "Kononenko, Igor"),
        "Explaining prediction models and individual predictions with feature contributions",
        "Knowledge and Information Systems",
        2014,
        volume="41",
        pages="647--665",
    ),
    "Sundararajan et al. 2017, ICML": Paper(
        "sundararajan2017axiomatic",
        ("Sundararajan, Mukund", "Taly, Ankur", "Yan, Qiqi"),
        "Axiomatic Attribution for Deep Networks",
        _ICML,
        2017,
    ),
    "Wang et al. 2020, CVPR workshops": Paper(
        "wang2020scorecam",
        (
            *("Wang, Haofan", "Wang, Zifan", "Du, Mengnan", "Yang, Fan", "Zhang, Zijian", "Ding, Sirui"),
            *("Mardziel, Piotr", "Hu, Xia"),
        ),
        "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops",
        2020,
    ),
    "Zeiler and Fergus 2014, ECCV": Paper(
        "zeiler2014visualizing",
        ("Zeiler, Matthew D.", "Fergus, Rob"),
        "Visualizing and Understanding Convolutional Networks",
        "European Conference on Computer Vision",
        2014,
    ),
    "Zhang et al. 2018, IJCV 126: 1084-1102": _article(
        "zhang2018excitation",
        ("Zhang, Jianming", "Bargal, Sarah Adel", "Lin, Zhe", "Brandt, Jonathan", "Shen, Xiaohui", "Sclaroff, Stan"),
        "Top-Down Neural Attention by Excitation Backprop",
        "International Journal of Computer Vision",
        2018,
        volume="126",
        number="10",
        pages="1084--1102",
    ),
    "Zhou et al. 2016, CVPR": Paper(
        "zhou2016learning",
        ("Zhou, Bolei", "Khosla, Aditya", "Lapedriza, Agata", "Oliva, Aude", "Torralba, Antonio"),
        "Learning Deep Features for Discriminative Localization",
        "IEEE Conference on Computer Vision and Pattern Recognition",
        2016,
    ),
}
"""By the text that a method's ``paper`` says."""
